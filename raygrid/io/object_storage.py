"""Folders in object storage (`s3://`, `gs://`): whole objects in, whole objects out, patient with faults that pass.

Credentials are the environment's or the machine's, never part of a URL, and never in a message.
"""

import os
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from raygrid.errors import SpecError, StoreError, unknown_name

T = TypeVar("T")
ATTEMPTS = 6  # of one operation, each with the retries of the client below
PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0  # before the second attempt, doubled before each further one
_OPTIONS = {"s3": ("endpoint_override", "region", "scheme"), "gs": ("endpoint_override", "scheme")}
_REFUSALS = (  # what comes again however often one asks; of S3, then of Google
    *("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "nosuchbucket", "expiredtoken", "invalidtoken"),
    *("permissiondenied", "unauthenticated", "could not create a oauth2 access token"),
)
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_CHUNK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class ObjectVersion:
    """By what an object is known to have changed: its size, and when the server got it, in whole seconds."""

    num_bytes: int
    modified_s: int


@dataclass(frozen=True)
class Remote:
    """A folder in a bucket. Names below it are relative, with `/`; the folder itself is "".

    Every method raises StoreError if the storage refuses, or does not answer however often it is asked.
    """

    scheme: str
    bucket: str
    prefix: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """The URL that `parse` reads."""
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.scheme}://{self._key('')}{'?' if query else ''}{query}"

    def check(self) -> None:
        """Return nothing if the bucket is there and may be asked."""
        found = self._patiently("asking for the bucket", lambda files: files.get_file_info(self.bucket))
        if found.type.name == "NotFound":
            raise StoreError(f"{self.url}: there is no bucket {self.bucket!r}; make it first, or mend the URL")

    def list(self, name: str = "") -> dict[str, ObjectVersion]:
        """Return every object below `name`, or the object `name` itself, with its version."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._key(name), recursive=True, allow_not_found=True)
        infos = self._patiently(f"listing {name or 'it'}", lambda files: files.get_file_info(selector))
        start = len(self._key("")) + 1
        found = {info.path[start:]: _version_of(info) for info in infos if info.is_file}
        alone = None if found or not name else self.stat(name)
        return {name: alone} if alone else found

    def stat(self, name: str) -> ObjectVersion | None:
        """Return the version of an object, None if it is not there."""
        info = self._patiently(f"asking for {name}", lambda files: files.get_file_info(self._key(name)))
        return _version_of(info) if info.is_file else None

    def upload(self, path: Path, name: str) -> ObjectVersion:
        """Make the object `name` of a local file, whole or not at all, and return its version."""
        return self._put(name, path.stat().st_size, lambda: _mapped(path))

    def write(self, name: str, data: bytes) -> ObjectVersion:
        """Make the object `name` of some bytes, whole or not at all, and return its version."""
        return self._put(name, len(data), lambda: data)

    def download(self, name: str, path: Path) -> None:
        """Write an object to a local file. Raises FileNotFoundError if there is none."""

        def get(files: Any) -> None:
            with files.open_input_stream(self._key(name)) as source, path.open("wb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    file.write(chunk)

        self._patiently(f"reading {name}", get)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a small object, None if it is not there."""

        def get(files: Any) -> bytes:
            with files.open_input_stream(self._key(name)) as source:
                return bytes(source.read())

        try:
            return self._patiently(f"reading {name}", get)
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete an object, or all below `name`; what is not there stays away."""
        assert name  # never the whole folder
        found, key = self.list(name), self._key(name)
        if not found:
            return
        alone = list(found) == [name]

        def delete(files: Any) -> None:
            (files.delete_file if alone else files.delete_dir)(key)

        with suppress(FileNotFoundError):  # somebody else's deletion, or our own whose answer was lost
            self._patiently(f"deleting {name}", delete)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.bucket, self.prefix, name) if part)

    def _put(self, name: str, num_bytes: int, content: Callable[[], Any]) -> ObjectVersion:
        def put(files: Any) -> ObjectVersion:
            # copy_files of pyarrow does not close what it writes, and so tells nobody of a failed upload
            out = files.open_output_stream(self._key(name))
            out.write(content())
            out.close()
            version = _version_of(files.get_file_info(self._key(name)))
            if version.num_bytes != num_bytes:
                raise OSError(f"{version.num_bytes} bytes arrived, expected {num_bytes}")
            return version

        # Ctrl-C between opening and closing would make an object of half a file: it reaches main threads only
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._patiently, f"writing {name}", put).result()

    def _patiently(self, doing: str, action: Callable[[Any], T]) -> T:
        """Return what `action(file system)` does, asked again after pauses that grow while it fails."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action(_file_system(self.scheme, self.bucket, self.options, _endpoint()))
            except (OSError, ValueError) as error:  # pyarrow's errors are of both kinds
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # an object that is not there, or this machine's own disk
                said = _without_secrets(str(error))
                if _is_refusal(said) or isinstance(error, ValueError):
                    raise StoreError(
                        f"{self.url} refuses ({doing}): {said}\nSee to the credentials (environment, profile or role "
                        "of this machine), to the policy of the bucket and to the URL (docs/how-to/object-storage.md)"
                    ) from None  # the cause may hold what is masked here
            if attempt < ATTEMPTS:
                longest = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (attempt - 1))
                time.sleep(random.uniform(longest / 2, longest))  # not all workers again at the same moment
        raise StoreError(
            f"{self.url} does not answer as it must ({doing}, {ATTEMPTS} attempts): {said}\n"
            "See to the network; what was uploaded stays: run the same command again to continue"
        )


def is_url(location: str) -> bool:
    """Whether a location is a URL, and not a path."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location))


def parse(url: str) -> Remote:
    """Return the folder that a URL names, such as `s3://bucket/studies/paper?region=eu-central-1`.

    Raises SpecError for a scheme that is not known, an option that is not known, and for credentials in the URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in _OPTIONS:
        raise SpecError(f"{unknown_name('kind of storage', parts.scheme, _OPTIONS)}; a path needs no ://")
    shown, options = f"{parts.scheme}://…", tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))
    if "@" in parts.netloc + parts.query:  # the message must not repeat it
        raise SpecError(
            f"{shown} holds credentials; leave them out of the URL, and give them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or the role of the machine"
        )
    for name, _ in options:
        if name not in _OPTIONS[parts.scheme]:
            raise SpecError(f"{shown}: {unknown_name('option', name, _OPTIONS[parts.scheme])}")
    if not parts.netloc or parts.fragment:
        raise SpecError(f"{shown}: expected {parts.scheme}://BUCKET/FOLDER, without #")
    return Remote(parts.scheme, parts.netloc, parts.path.strip("/"), options)


def _endpoint() -> str | None:
    """Return the S3-compatible server that the environment names, as AWS's own tools read it; pyarrow does not."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@lru_cache(maxsize=16)
def _file_system(scheme: str, bucket: str, options: tuple[tuple[str, str], ...], endpoint: str | None) -> Any:
    from pyarrow import fs

    given = dict(options)
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=30), **given)
    if endpoint is not None:
        given.setdefault("endpoint_override", endpoint)
    if "region" not in given:
        named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        given["region"] = named if "endpoint_override" in given else fs.resolve_s3_region(bucket)
    patience = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    # delayed: a file that fits into one request is one request
    return fs.S3FileSystem(
        retry_strategy=patience, request_timeout=60, connect_timeout=10, allow_delayed_open=True, **given
    )


def _version_of(info: Any) -> ObjectVersion:
    return ObjectVersion(int(info.size or 0), int(info.mtime_ns or 0) // 10**9)


def _mapped(path: Path) -> Any:
    """Return the content of a file, mapped: uploads of many workers must not fill the memory."""
    from pyarrow import memory_map

    return memory_map(str(path)).read_buffer() if path.stat().st_size else b""


def _is_refusal(said: str) -> bool:
    return any(word in said.lower().replace("_", "") for word in _REFUSALS)


def _without_secrets(text: str) -> str:
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text
