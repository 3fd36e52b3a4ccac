"""Requests to an endpoint: within the rate limit, with retries, and with the token masked in every message."""

import json
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from raygrid.errors import DataError, EndpointError, SpecError
from raygrid.spec import TargetSpec
from raygrid.targets.rate_limit import RateLimiter

_TEMPORARY = (408, 425, 429)  # and 5xx: the request is repeated
_FIRST_WAIT_S, _LONGEST_BACKOFF_S = 1.0, 60.0
_LONGEST_WAIT_S = 600.0  # for a server's Retry-After; beyond it the run ends, so that workers are not blocked
_MOST_BYTES = 16 * 2**20  # of a reply
_SHOWN = 200  # characters of a reply in a message
_KEPT = "every answer is kept; run the same command again"


class _Session(requests.Session):
    """A session that never looks behind a redirect: requests would read its whole body, without a limit, and unpack it.

    The URL of a redirect is read from the headers of the reply, like any other header.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, that is, no target."""


class HttpClient:
    """Sends requests to the URL of a target. Raises SpecError if the variable of the token is not set."""

    def __init__(self, spec: TargetSpec, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url, self._endpoint = spec.source, spec.endpoint
        self._who = f"target {spec.label!r} at {spec.source}"
        self._token = _token(spec)
        self._rate_limiter = RateLimiter(spec.source, spec.endpoint.requests_per_second, sleep=sleep)
        self._sleep = sleep
        self._jitter = random.Random()  # no result depends on it
        self._session = _Session()
        self._session.headers["Accept-Encoding"] = "identity"  # so that the size limit counts the bytes received
        self._session.auth = self._authorise  # without a token too, or requests would send credentials from ~/.netrc

    def post(self, request: dict[str, Any]) -> Any:
        """Return the JSON value of the reply.

        Raises EndpointError if the endpoint refuses, or still fails after the declared retries; DataError if the reply
        is not JSON.
        """
        for attempt in range(self._endpoint.retries + 1):
            self._rate_limiter.wait()
            try:
                status, headers, text = self._send(request)
            except (requests.ConnectionError, requests.Timeout) as error:
                failure, wait_s = type(error).__name__, None
            except requests.RequestException as error:
                raise EndpointError(
                    f"{self._who}: the request cannot be sent ({self.excerpt(str(error))}); check the URL"
                ) from None
            else:
                if status == 200:
                    return self._parsed(text, headers.get("Content-Type", "no content type"))
                failure, wait_s = f"status {status}: {self.excerpt(text)}", _retry_after(headers.get("Retry-After"))
                self._require_passing(status, failure, wait_s, headers.get("Location", ""))
            if attempt < self._endpoint.retries:
                self._wait(attempt, wait_s)
        raise EndpointError(
            f"{self._who} failed {self._endpoint.retries + 1} times, the last with {failure}; check that it runs and "
            f"answers within timeout_s={self._endpoint.timeout_s:g}; {_KEPT}"
        )

    def _send(self, request: dict[str, Any]) -> tuple[int, Any, str]:
        """Return status, headers and text. Raises RequestException, and DataError if the reply is too large."""
        limit_s = self._endpoint.timeout_s
        deadline = time.monotonic() + limit_s
        with self._session.post(
            self._url, json=request, timeout=limit_s, allow_redirects=False, stream=True
        ) as response:
            try:
                text = self._read(response, deadline)
            except HTTPError as error:  # the raw stream raises urllib3's errors
                raise requests.ConnectionError(f"the reply was cut off: {type(error).__name__}") from error
            return response.status_code, response.headers, text

    def _read(self, response: requests.Response, deadline: float) -> str:
        content = bytearray()
        # read1 returns the bytes at hand; waiting for a full part could take forever with a slow server
        while chunk := response.raw.read1(65536):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise DataError(f"{self._who} sent more than {_MOST_BYTES} bytes; expected a few rows. Check the URL")
            if time.monotonic() > deadline:  # the timeout of requests applies to each read, not to the whole reply
                raise requests.Timeout("the reply came too slowly")
        return content.decode("utf-8", errors="replace")

    def _parsed(self, text: str, kind: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:  # RecursionError: brackets in thousands of brackets
            raise DataError(
                f"{self._who}: expected JSON, got {self.excerpt(kind)} that begins with {self.excerpt(text)!r}; "
                "check the URL, and any proxy between this machine and the endpoint"
            ) from error

    def _require_passing(self, status: int, failure: str, wait_s: float | None, leads_to: str) -> None:
        """Raise EndpointError for a permanent failure, or for a wait that is too long."""
        if status not in _TEMPORARY and status < 500:
            hint = "; check the token that token_variable names" if status in (401, 403) else ""
            if leads_to:  # images go to the declared URL alone
                hint = f"; it redirects to {self.excerpt(leads_to)}: declare that URL if you may send images there"
            raise EndpointError(f"{self._who} refused the request with {failure}{hint}; {_KEPT} after the correction")
        if wait_s is not None and wait_s > _LONGEST_WAIT_S:
            raise EndpointError(f"{self._who} asks for a wait of {wait_s:.0f} s ({failure}); {_KEPT} after that time")

    def _wait(self, attempt: int, wait_s: float | None) -> None:
        """Wait as long as the server asks, or a random time that grows, so that workers do not retry together."""
        if wait_s is not None:
            self._rate_limiter.postpone(wait_s)  # for every worker of the node
        else:
            longest = min(_LONGEST_BACKOFF_S, _FIRST_WAIT_S * 2**attempt)
            self._sleep(longest * self._jitter.uniform(0.5, 1))

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def masked(self, text: str) -> str:
        """Return a text with the token replaced, also in the escaped forms of Python and JSON.

        Every reply of an endpoint can contain the token, also one with status 200.
        """
        written = {self._token, repr(self._token)[1:-1], json.dumps(self._token)[1:-1]} - {""}
        for form in sorted(written, key=len, reverse=True):
            text = text.replace(form, "<token>")
        return text

    def excerpt(self, text: str) -> str:
        """Return the beginning of a reply on one line, without the token."""
        return _shortened(self.masked(text))


def _shortened(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: 4 * _SHOWN].split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _token(spec: TargetSpec) -> str:
    variable = spec.endpoint.token_variable
    token = os.environ.get(variable, "").strip() if variable else ""
    if variable and not token:
        raise SpecError(
            f"target {spec.label!r}: the environment variable {variable} is not set; set it to the token of the "
            "endpoint on every node"
        )
    return token


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None if it is absent or neither."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():  # "²" is a digit, too
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
