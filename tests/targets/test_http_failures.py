"""Every failure of an endpoint gives a clear message, and no answer is lost."""

import json
import logging
import re
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from endpoint_cases import EXPECTED, IMAGES, asked, brightness, patient, spec_of
from target_server import Reply, TargetServer

from raygrid.errors import DataError, EndpointError, RaygridError, SpecError, StoreError
from raygrid.spec import EndpointSpec, TargetSpec
from raygrid.targets.http_client import HttpClient


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_a_temporary_failure_is_retried(status: int, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(status, "busy"), Reply(status, "busy")]
    found, waits = patient(spec_of(server), tmp_path)
    assert found(IMAGES[:2]) == pytest.approx(EXPECTED[:2])
    waits = [wait for wait in waits if wait > 0.1]  # the others are turns
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2
    assert len(server.requests) == 3


def test_a_server_that_stays_broken_is_named(server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(500, "<html>\n\n  overloaded </html>", "text/html")] * 3
    found, _ = patient(spec_of(server), tmp_path)
    with pytest.raises(
        EndpointError, match=f"{server.url} failed 3 times, .*status 500: <html> overloaded .*every answer is kept"
    ):
        found(IMAGES)
    assert not list(tmp_path.iterdir())
    assert found(IMAGES) == pytest.approx(EXPECTED)  # the same command again


def test_retry_after_is_respected(server: TargetServer, tmp_path: Path) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.replies = [Reply(429, Retry_After="30"), Reply(503, Retry_After=later)]
    found, waits = patient(spec_of(server), tmp_path)
    found(IMAGES[:2])
    assert len(waits) == 2
    assert 29 < waits[0] <= 30
    assert 60 < waits[1] <= 90
    server.replies = [Reply(429, Retry_After="7200")]
    with pytest.raises(EndpointError, match="asks for a wait of 7200 s"):
        found(IMAGES)


@pytest.mark.parametrize("value", ["²", "soon", "Mon, 01 Jan 0001 00:00:00 +2359", "-5"])
def test_a_retry_after_that_is_no_time_is_ignored(value: str, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(503, Retry_After=value)]
    found, _ = patient(spec_of(server), tmp_path)
    assert found(IMAGES) == pytest.approx(EXPECTED)


def test_a_slow_server_times_out(server: TargetServer, tmp_path: Path) -> None:
    server.hold = 0
    found, _ = patient(spec_of(server, timeout_s=0.2, retries=0), tmp_path)
    with pytest.raises(EndpointError, match=r"failed 1 times, the last with ReadTimeout; .*timeout_s=0\.2"):
        found(IMAGES)
    server.release.set()
    assert found(IMAGES) == pytest.approx(EXPECTED)


def test_a_reply_in_small_pieces_times_out(server: TargetServer, tmp_path: Path) -> None:
    drip = Reply(body=" " * 5000)  # 50 seconds, and never as long as the timeout without a byte
    drip.drips = True
    server.replies = [drip]
    found, _ = patient(spec_of(server, timeout_s=0.5, retries=0), tmp_path)
    with pytest.raises(EndpointError, match="the last with Timeout"):
        found(IMAGES)


def test_a_broken_reply_is_retried(server: TargetServer, tmp_path: Path) -> None:
    broken = Reply(body='{"answers": [[1]')
    broken.missing = 9
    server.replies = [broken]
    found, _ = patient(spec_of(server), tmp_path)
    assert found(IMAGES[:4]) == pytest.approx(EXPECTED[:4])
    assert len(server.requests) == 2


def test_an_absent_server_is_an_error(tmp_path: Path) -> None:
    with TargetServer(brightness) as server:
        spec = spec_of(server)
    found, waits = patient(spec, tmp_path)
    with pytest.raises(EndpointError, match="failed 3 times, the last with ConnectionError"):
        found(IMAGES)
    assert len([wait for wait in waits if wait > 0.1]) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_refusal_is_not_repeated(status: int, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(status, "no: " + "x" * 5000)]
    with pytest.raises(EndpointError, match=rf"refused the request with status {status}: no: x+\.\.\.") as raised:
        asked(spec_of(server), tmp_path)
    assert len(server.requests) == 1
    assert len(str(raised.value)) < 500
    assert not list(tmp_path.iterdir())


def test_a_redirect_is_not_followed(server: TargetServer, tmp_path: Path) -> None:
    with TargetServer(brightness) as other:
        server.replies = [Reply(307, Location=other.url)]
        with pytest.raises(EndpointError, match=f"status 307.*it redirects to {other.url}: declare that URL"):
            asked(spec_of(server), tmp_path)
        assert not other.requests


@pytest.mark.parametrize("location", ["http://[", "\xff\xfe", "http://a:b/"])
def test_a_redirect_to_no_url_is_a_refusal(location: str, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(302, Location=location)]
    with pytest.raises(EndpointError, match="refused the request with status 302"):
        asked(spec_of(server), tmp_path)


def test_the_body_of_a_redirect_is_read_up_to_the_limit_only(server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(302, " " * (17 * 2**20), Location=server.url)]
    with pytest.raises(DataError, match="expected a few rows"):
        asked(spec_of(server), tmp_path)


NAN = '{"answers": [[NaN], [1], [2], [3]]}'


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(body="<html>Sign in</html>", kind="text/html"),
            "expected JSON, got text/html that begins with '<html>Sign",
        ),
        (Reply(body='{"answers": [[1], [2], [3]]}'), r"array of shape \[3, 1\]; expected 4 rows of 1"),
        (Reply(body='{"answers": [[1, 2], [1, 2], [1, 2], [1, 2]]}'), r"array of shape \[4, 2\]"),
        (Reply(body='{"answers": [[1], [2], [3], []]}'), "not an array of numbers"),
        (Reply(body='{"answers": [[1], [2], [3], [null]]}'), "nan for image 3|not an array of numbers"),
        (Reply(body='{"answers": {"benign": 1}}'), "not an array of numbers"),
        (Reply(body=NAN), "nan for image 0, output 0"),
        (Reply(body='{"scores": [[1]]}'), r'expected \{"answers": .* with 4 rows, got .*scores'),
        (Reply(body="[]"), r"expected \{.*got \[\]"),
        (Reply(body=""), "expected JSON"),
        (Reply(body="[" * 100_000), r"expected JSON, got application/json that begins with '\[\[\["),
        (Reply(body=f'{{"answers": [[1{"0" * 400}], [1], [2], [3]]}}'), "not an array of numbers"),
        (
            Reply(body='{"answers": [[0], [1e39], [2], [3]]}'),
            r"answered 1e\+39 for image 1, output 0; .* each at most 1e\+38",
        ),
    ],
)
def test_a_bad_reply_is_named_and_not_kept(reply: Reply, message: str, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [reply]
    with pytest.raises(DataError, match=message) as raised:
        asked(spec_of(server), tmp_path)
    assert server.url in str(raised.value)
    assert not list(tmp_path.iterdir())
    assert asked(spec_of(server), tmp_path) == pytest.approx(EXPECTED, abs=1e-6)


def test_a_reply_that_never_ends_is_cut(server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(body=" " * (17 * 2**20))]
    with pytest.raises(DataError, match="expected a few rows"):
        asked(spec_of(server), tmp_path)


def test_a_damaged_file_of_answers_is_named(server: TargetServer, tmp_path: Path) -> None:
    asked(spec_of(server), tmp_path)
    damaged = sorted(tmp_path.glob("*.json"))[0]
    for text in ("[1, 2", "{}", '{"endpoint": "e", "answers": 3}'):
        damaged.write_text(text)
        with pytest.raises(StoreError, match=re.escape(str(damaged))):
            asked(spec_of(server), tmp_path)


# --- the token


def test_a_token_is_sent_and_appears_nowhere_else(
    server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, token_variable="CLINIC_TOKEN", retries=0)
    monkeypatch.setenv("CLINIC_TOKEN", "s3cret-value\n")
    asked(spec, tmp_path, IMAGES[:1])
    assert server.tokens == ["Bearer s3cret-value"]
    messages = []
    for reply in (
        Reply(403, "bad token s3cret-value"),
        Reply(500, "s3cret-value"),
        Reply(200, "s3cret-value"),
        Reply(200, '{"echo": {"Authorization": "Bearer s3cret-value"}}'),
        Reply(200, '"s3cret-value"'),
        Reply(200, "<html>", "text/s3cret-value"),
        Reply(302, Location="http://elsewhere/?key=s3cret-value"),
    ):
        server.replies = [reply]
        with pytest.raises(RaygridError) as raised:
            asked(spec, tmp_path)
        messages.append(str(raised.value))
    assert all("<token>" in message for message in messages)
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "s3cret" not in kept + "".join(messages) + caplog.text
    assert caplog.text  # something was logged


def test_a_token_among_the_answers_is_not_in_the_traceback(
    server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_TOKEN", "s3cret-value")
    server.replies = [Reply(200, '{"answers": [["s3cret-value"], ["s3cret-value"]]}')]
    with pytest.raises(RaygridError) as raised:
        asked(spec_of(server, token_variable="CLINIC_TOKEN", retries=0), tmp_path)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("token", ["it's", 'a"b', "back\\slash", "ümlaut", "plain"])
def test_a_token_is_masked_in_every_form(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC_TOKEN", token)
    endpoint = EndpointSpec(token_variable="CLINIC_TOKEN")
    client = HttpClient(TargetSpec(modality="m", label="t", kind="http", source="http://localhost", endpoint=endpoint))
    for text in (token, str({"a": token}), json.dumps({"a": token}), json.dumps([token], ensure_ascii=False)):
        assert "<token>" in client.excerpt(text)
        assert token not in client.excerpt(text)


def test_a_missing_token_is_named(server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLINIC_TOKEN", raising=False)
    with pytest.raises(SpecError, match="the environment variable CLINIC_TOKEN is not set"):
        asked(spec_of(server, token_variable="CLINIC_TOKEN"), tmp_path)


def test_other_credentials_of_the_user_are_not_sent(
    server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password theirs\n")
    monkeypatch.setenv("NETRC", str(netrc))
    asked(spec_of(server), tmp_path / "answers")
    assert server.tokens == [None, None]
