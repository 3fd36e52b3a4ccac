"""Folders in object storage (`s3://`, `gs://`): read, write, list and delete whole objects, with retries.

Credentials come from the environment or the machine. They are never part of a URL or a message.
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
ATTEMPTS = 6  # per operation, each with the retries of pyarrow's client
PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0  # before the second attempt; doubled before each further one
_OPTIONS = {"s3": ("endpoint_override", "region", "scheme"), "gs": ("endpoint_override", "scheme")}
_REFUSALS = (  # errors that no retry resolves: of S3, then of Google
    *("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "nosuchbucket", "expiredtoken", "invalidtoken"),
    *("permissiondenied", "unauthenticated", "could not create a oauth2 access token"),
)
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_CHUNK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class ObjectVersion:
    """Size and modification time (server time, whole seconds) of an object; a change of either is a new version."""

    num_bytes: int
    modified_s: int


@dataclass(frozen=True)
class Remote:
    """A folder in a bucket. Object names are relative to it, with `/`; the folder itself is "".

    Every method raises StoreError if the storage refuses access, or still does not answer after the retries.
    """

    scheme: str
    bucket: str
    prefix: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """The URL of the folder, as `parse` reads it."""
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.scheme}://{self._key('')}{'?' if query else ''}{query}"

    def check(self) -> None:
        """Raise StoreError if the bucket is absent or access to it is refused."""
        found = self._with_retries("checking the bucket", lambda files: files.get_file_info(self.bucket))
        if found.type.name == "NotFound":
            raise StoreError(f"{self.url}: there is no bucket {self.bucket!r}; create it, or correct the URL")

    def list(self, name: str = "", *, recursive: bool = True) -> dict[str, ObjectVersion]:
        """Return the versions of all objects below `name`, or of the object `name` itself, by object name.

        Args:
            recursive: include the objects in the folders below `name`.
        """
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._key(name), recursive=recursive, allow_not_found=True)
        infos = self._with_retries(f"listing {name or 'the folder'}", lambda files: files.get_file_info(selector))
        start = len(self._key("")) + 1
        found = {info.path[start:]: _version_of(info) for info in infos if info.is_file}
        alone = None if found or not name else self.stat(name)
        return {name: alone} if alone else found

    def stat(self, name: str) -> ObjectVersion | None:
        """Return the version of an object, None if it is absent."""
        info = self._with_retries(f"checking {name}", lambda files: files.get_file_info(self._key(name)))
        return _version_of(info) if info.is_file else None

    def upload(self, path: Path, name: str) -> ObjectVersion:
        """Write a local file to the object `name`, completely or not at all; return the new version."""
        return self._put(name, path.stat().st_size, lambda: _mapped(path))

    def write(self, name: str, data: bytes) -> ObjectVersion:
        """Write bytes to the object `name`, completely or not at all; return the new version."""
        return self._put(name, len(data), lambda: data)

    def download(self, name: str, path: Path) -> None:
        """Write an object to a local file. Raises FileNotFoundError if the object is absent."""

        def get(files: Any) -> None:
            with files.open_input_stream(self._key(name)) as source, path.open("wb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    file.write(chunk)

        self._with_retries(f"reading {name}", get)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a small object, None if it is absent."""

        def get(files: Any) -> bytes:
            with files.open_input_stream(self._key(name)) as source:
                return bytes(source.read())

        try:
            return self._with_retries(f"reading {name}", get)
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete the object `name`, or all objects below it; do nothing if there is none."""
        assert name  # never the whole folder
        found, key = self.list(name), self._key(name)
        if not found:
            return
        alone = list(found) == [name]

        def delete(files: Any) -> None:
            (files.delete_file if alone else files.delete_dir)(key)

        with suppress(FileNotFoundError):  # deleted by another process, or by an attempt whose answer was lost
            self._with_retries(f"deleting {name}", delete)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.bucket, self.prefix, name) if part)

    def _put(self, name: str, num_bytes: int, content: Callable[[], Any]) -> ObjectVersion:
        def put(files: Any) -> ObjectVersion:
            # pyarrow's copy_files does not close its output, and therefore hides a failed upload
            out = files.open_output_stream(self._key(name))
            out.write(content())
            out.close()
            version = _version_of(files.get_file_info(self._key(name)))
            if version.num_bytes != num_bytes:
                raise OSError(f"expected {num_bytes} bytes, {version.num_bytes} arrived")
            return version

        # in a thread: Ctrl-C, which only main threads receive, would close the stream early and leave half an object
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._with_retries, f"writing {name}", put).result()

    def _with_retries(self, task: str, action: Callable[[Any], T]) -> T:
        """Return `action(file system)`, repeated after growing pauses while it fails.

        Args:
            task: the operation, for messages, as in "listing zoo".

        Raises StoreError for a refusal or after the last attempt; FileNotFoundError and local disk errors unchanged.
        """
        from pyarrow import ArrowException

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action(file_system(self.scheme, self.bucket, self.options, _endpoint()))
            except (OSError, ValueError, ArrowException) as error:  # pyarrow raises all three
                if isinstance(error, FileNotFoundError) or _is_local(error):
                    raise
                reason = _without_secrets(str(error))
                is_refusal = isinstance(error, ValueError) or _is_refusal(reason)
            if is_refusal and "retry-policy-exhausted" not in reason:  # which Google's client adds to temporary faults
                break
            if attempt < ATTEMPTS:
                longest = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (attempt - 1))
                # random: workers must not all repeat at the same moment
                time.sleep(random.uniform(longest / 2, longest))
        # outside of the handler: the error there may contain the secrets masked here
        if is_refusal:
            raise StoreError(
                f"{self.url} refuses access ({task}): {reason}",
                "Check the credentials (environment, profile or role of this machine), the policy of the bucket and "
                "the URL (docs/how-to/object-storage.md)",
            )
        raise StoreError(
            f"{self.url} does not answer ({task}, {ATTEMPTS} attempts): {reason}",
            "Check the network, then run the same command again to continue; uploaded files stay",
        )


def is_url(location: str) -> bool:
    """Whether a location is a URL rather than a path."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location))


def parse(url: str) -> Remote:
    """Return the folder of a URL such as `s3://bucket/studies/paper?region=eu-central-1`.

    Raises SpecError if the scheme or an option is unknown, or the URL contains credentials.
    """
    parts = urlsplit(url)
    if parts.scheme not in _OPTIONS:
        raise SpecError(f"{unknown_name('kind of storage', parts.scheme, _OPTIONS)}; write a local path without ://")
    shown, options = f"{parts.scheme}://…", tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))
    if "@" in parts.netloc + parts.query:  # the message must not repeat them
        raise SpecError(
            f"{shown} holds credentials; remove them from the URL, and provide them through the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or the role of the machine"
        )
    for name, _ in options:
        if name not in _OPTIONS[parts.scheme]:
            raise SpecError(f"{shown}: {unknown_name('option', name, _OPTIONS[parts.scheme])}")
    if not parts.netloc or parts.fragment:
        raise SpecError(
            f"{shown}: expected {parts.scheme}://BUCKET/FOLDER without #, got no bucket or a #; correct the URL"
        )
    return Remote(parts.scheme, parts.netloc, parts.path.strip("/"), options)


def _endpoint() -> str | None:
    """Return the endpoint of the environment, None if unset; AWS's tools read these variables, pyarrow does not."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@lru_cache(maxsize=16)
def file_system(scheme: str, bucket: str, options: tuple[tuple[str, str], ...], endpoint: str | None) -> Any:
    from pyarrow import fs

    given = dict(options)
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=1), **given)
    if endpoint is not None:
        given.setdefault("endpoint_override", endpoint)
    if "region" not in given:
        named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        given["region"] = named if "endpoint_override" in given else fs.resolve_s3_region(bucket)
    patience = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    # allow_delayed_open: a small file takes a single request
    return fs.S3FileSystem(
        retry_strategy=patience, request_timeout=60, connect_timeout=10, allow_delayed_open=True, **given
    )


def _version_of(info: Any) -> ObjectVersion:
    return ObjectVersion(int(info.size or 0), int(info.mtime_ns or 0) // 10**9)


def _mapped(path: Path) -> Any:
    """Return the content of a file, memory-mapped: uploads of many workers must not fill the memory."""
    from pyarrow import memory_map

    return memory_map(str(path)).read_buffer() if path.stat().st_size else b""


def _is_local(error: Exception) -> bool:
    """Whether the local disk fails; pyarrow gives errors of Google's storage a number, too."""
    return isinstance(error, OSError) and error.errno is not None and "google::cloud" not in str(error)


def _is_refusal(reason: str) -> bool:
    return any(word in reason.lower().replace("_", "") for word in _REFUSALS)


def _without_secrets(text: str) -> str:
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text
