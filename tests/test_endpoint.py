"""An endpoint is asked slowly, for nothing twice, and whatever it does ends in a clear message."""

import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ask_endpoint import BATCH, batch_of
from target_models import target
from target_server import WAIT_S, Reply, TargetServer

from raygrid.errors import BudgetSpentError, DataError, EndpointError, RaygridError, SpecError, StoreError
from raygrid.external import check_target, open_target
from raygrid.external.answers import AnswerStore
from raygrid.external.endpoint import Endpoint
from raygrid.external.identity import endpoint_identity
from raygrid.external.pace import Pace
from raygrid.external.post import Poster
from raygrid.spec import AnswerSpec, EndpointSpec, TargetSpec

SIZE = 8
IMAGES = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, SIZE, SIZE)
EXPECTED = (np.rint((IMAGES.numpy()[:, 0, 0, 0] + 1) * 127.5) / 10 - 7)[:, None]


def brightness(images: list[np.ndarray]) -> list[list[float]]:
    """Return a logit of each grey image: a tenth of its level, less 7."""
    return [[float(image.mean()) / 10 - 7] for image in images]


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with TargetServer(brightness) as server:
        yield server


def spec_of(server: TargetServer, **endpoint: Any) -> TargetSpec:
    declared = EndpointSpec(**{"batch_size": 4, "requests_per_second": 10_000, "retries": 2, **endpoint})
    return target("http", server.url, received="png", endpoint=declared)


def asked(spec: TargetSpec, folder: Path, images: torch.Tensor = IMAGES) -> np.ndarray:
    found = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=folder)
    return found(images).numpy()


def patient(spec: TargetSpec, folder: Path) -> tuple[Endpoint, list[float]]:
    """Return an endpoint that waits for nothing, and the list of the seconds that it would have waited."""
    waits: list[float] = []
    store = AnswerStore(folder, endpoint_identity(spec), spec.endpoint.max_images)
    return Endpoint(spec, store, Poster(spec, sleep=waits.append), num_outputs=1), waits


# --- for nothing twice


def test_an_image_is_asked_once(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server)
    twice = torch.cat([IMAGES, IMAGES.flip(0)])
    assert asked(spec, tmp_path, twice) == pytest.approx(np.concatenate([EXPECTED, EXPECTED[::-1]]), abs=1e-6)
    assert [len(images) for images in server.requests] == [4, 2]
    assert asked(spec, tmp_path) == pytest.approx(EXPECTED, abs=1e-6)  # opened anew
    assert set(server.counts.values()) == {1}
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert not list(tmp_path.glob("*.asked"))


def test_answers_are_kept_for_what_was_sent_to_whom(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=12)
    asked(spec, tmp_path)
    likely = replace(spec, answer=AnswerSpec(kind="probability"))
    with pytest.raises(DataError, match="a probability from 0 to 1 was declared"):  # read from what was kept
        asked(likely, tmp_path)
    assert len(server.requests) == 2
    asked(replace(spec, endpoint=replace(spec.endpoint, version="2")), tmp_path)
    assert set(server.counts.values()) == {2}
    other = replace(spec, endpoint=replace(spec.endpoint, version="3"))
    with pytest.raises(BudgetSpentError, match="12 images were sent"):  # to either version
        asked(other, tmp_path)


def test_two_that_ask_at_once_read_each_others_answers(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server)
    first, second = (patient(spec, tmp_path)[0] for _ in range(2))
    assert first(IMAGES) == pytest.approx(EXPECTED)
    assert second(IMAGES) == pytest.approx(EXPECTED)  # opened before there was any
    assert set(server.counts.values()) == {1}


def test_a_kill_costs_the_request_in_flight_and_nothing_else(server: TargetServer, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("ask_endpoint.py")), server.url, str(tmp_path), "4"]
    server.hold = 3
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert server.held.wait(WAIT_S)
        process.send_signal(signal.SIGKILL)
        assert process.wait(WAIT_S) == -signal.SIGKILL
    in_flight = set(server.requests[3])
    server.release.set()
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_S)
    pixels = [[np.rint((image.numpy() + 1) * 127.5) for image in batch_of(number)] for number in range(4)]
    assert np.array(json.loads(finished.stdout)) == pytest.approx(np.array([brightness(images) for images in pixels]))
    assert {name for name, count in server.counts.items() if count > 1} == in_flight
    assert server.counts.total() == len(server.counts) + len(in_flight)
    assert len(server.counts) == 4 * (BATCH - 1) + 1


def test_a_killed_request_stays_counted_until_it_is_asked_again(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=6)
    found, _ = patient(spec, tmp_path)
    leftover = tmp_path / "0123.asked"
    leftover.write_text(json.dumps({"endpoint": found.store.endpoint, "images": ["a" * 64]}))
    with pytest.raises(BudgetSpentError, match="5 images were sent"):
        found(IMAGES)
    assert len(server.counts) == 4
    assert found.store.num_sent == 5


# --- within a budget


def test_a_budget_is_never_passed(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=5)
    with pytest.raises(
        BudgetSpentError, match=r"4 images were sent .* 2 more would pass max_images=5; every answer is"
    ):
        asked(spec, tmp_path)
    assert len(server.requests) == 1
    assert asked(spec, tmp_path, IMAGES[:4]) == pytest.approx(EXPECTED[:4], abs=1e-6)  # these are known
    more = replace(spec, endpoint=replace(spec.endpoint, max_images=6))
    assert asked(more, tmp_path) == pytest.approx(EXPECTED, abs=1e-6)
    assert server.counts.total() == 6


def test_a_budget_counts_what_others_have_under_way(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=6, batch_size=6)
    server.hold = 0
    slow = threading.Thread(target=asked, args=(spec, tmp_path))
    slow.start()
    assert server.held.wait(WAIT_S)
    with pytest.raises(BudgetSpentError, match="6 images were sent"):
        asked(spec, tmp_path, -IMAGES[:1] / 2)
    server.release.set()
    slow.join()
    assert server.counts.total() == 6


def test_the_check_costs_one_request_whose_answers_are_kept(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server)
    found = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=tmp_path)
    levels = np.rint((IMAGES.numpy().transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    check_target(spec, found, levels)
    assert [len(images) for images in server.requests] == [4]
    found(IMAGES)
    assert server.counts.total() == 6


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: [[image.mean() / 255] for image in images], "probabilities, where logits were declared"),
        (lambda images: [[0.25]] * len(images), "does not look at them"),
    ],
)
def test_the_check_asks_black_and_white_only_in_doubt(answer: Any, message: str, tmp_path: Path) -> None:
    levels = np.array([20, 60, 100], np.uint8)[:, None, None, None] * np.ones((1, SIZE, SIZE, 1), np.uint8)
    with TargetServer(answer) as server:
        spec = spec_of(server)
        found = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=tmp_path)
        with pytest.raises(DataError, match=message):
            check_target(spec, found, levels)
        assert server.counts.total() == 5


# --- slowly


def test_turns_are_shared_by_all_that_ask_one_url() -> None:
    now, waits = [1000.0], []
    paces = [
        Pace("http://127.0.0.1/a", 2.0, clock=lambda: now[0], sleep=waits.append),
        Pace("http://127.0.0.1/a", 2.0, clock=lambda: now[0], sleep=waits.append),
        Pace("http://127.0.0.1/b", 2.0, clock=lambda: now[0], sleep=waits.append),
    ]
    for pace in paces:
        pace.wait()
    paces[0].wait()
    assert waits == [0.5, 1.0]
    now[0] += 60
    paces[1].wait()
    assert waits == [0.5, 1.0]
    paces[0].postpone(20)
    paces[1].wait()
    assert waits[2:] == [20]


def test_a_turn_of_a_wrong_clock_is_passed_over() -> None:
    Pace("http://127.0.0.1/c", 1.0, clock=lambda: 1e9, sleep=lambda _: None).wait()
    waits: list[float] = []
    Pace("http://127.0.0.1/c", 1.0, clock=lambda: 1000.0, sleep=waits.append).wait()
    assert waits == []


def test_the_declared_rate_is_kept(server: TargetServer, tmp_path: Path) -> None:
    start = time.monotonic()
    asked(spec_of(server, batch_size=1, requests_per_second=20), tmp_path)
    assert time.monotonic() - start >= 5 / 20
    assert len(server.requests) == 6
    assert EndpointSpec().requests_per_second == 2  # unless told otherwise


# --- whatever it does


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_what_may_pass_is_asked_again(status: int, server: TargetServer, tmp_path: Path) -> None:
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
        EndpointError, match=f"{server.url} failed 3 times, .*status 500: <html> overloaded .*nothing is"
    ):
        found(IMAGES)
    assert not list(tmp_path.iterdir())
    assert found(IMAGES) == pytest.approx(EXPECTED)  # the same command again


def test_the_server_says_when_to_come_again(server: TargetServer, tmp_path: Path) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.replies = [Reply(429, Retry_After="30"), Reply(503, Retry_After=later)]
    found, waits = patient(spec_of(server), tmp_path)
    found(IMAGES[:2])
    assert len(waits) == 2
    assert 29 < waits[0] <= 30
    assert 60 < waits[1] <= 90
    server.replies = [Reply(429, Retry_After="7200")]
    with pytest.raises(EndpointError, match="wants no request for 7200 s"):
        found(IMAGES)


def test_a_slow_server_is_not_waited_for(server: TargetServer, tmp_path: Path) -> None:
    server.hold = 0
    found, _ = patient(spec_of(server, timeout_s=0.2, retries=0), tmp_path)
    with pytest.raises(EndpointError, match=r"failed 1 times, the last with ReadTimeout; .*timeout_s=0\.2"):
        found(IMAGES)
    server.release.set()
    assert found(IMAGES) == pytest.approx(EXPECTED)


def test_nobody_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with TargetServer(brightness) as server:
        spec = spec_of(server)
    found, waits = patient(spec, tmp_path)
    with pytest.raises(EndpointError, match="failed 3 times, the last with ConnectionError"):
        found(IMAGES)
    assert len([wait for wait in waits if wait > 0.1]) == 2


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413])
def test_a_refusal_is_not_repeated(status: int, server: TargetServer, tmp_path: Path) -> None:
    server.replies = [Reply(status, "no: " + "x" * 5000, Location="http://127.0.0.1:1/")]
    with pytest.raises(EndpointError, match=rf"refused with status {status}: no: x+\.\.\.") as raised:
        asked(spec_of(server), tmp_path)
    assert len(server.requests) == 1
    assert len(str(raised.value)) < 500
    assert not list(tmp_path.iterdir())


NAN = '{"answers": [[NaN], [1], [2], [3]]}'


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(body="<html>Sign in</html>", kind="text/html"),
            "expected JSON, got text/html that begins with '<html>Sign",
        ),
        (Reply(body='{"answers": [[1], [2], [3]]}'), r"array of \[3, 1\]; expected 4 rows of 1"),
        (Reply(body='{"answers": [[1, 2], [1, 2], [1, 2], [1, 2]]}'), r"array of \[4, 2\]"),
        (Reply(body='{"answers": [[1], [2], [3], []]}'), "no array of numbers"),
        (Reply(body='{"answers": [[1], [2], [3], [null]]}'), "nan for image 3|no array of numbers"),
        (Reply(body='{"answers": {"benign": 1}}'), "no array of numbers"),
        (Reply(body=NAN), "nan for image 0, output 0"),
        (Reply(body='{"scores": [[1]]}'), r'expected \{"answers": .* with 4 rows, got .*scores'),
        (Reply(body="[]"), r"expected \{.*got \[\]"),
        (Reply(body=""), "expected JSON"),
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
    with pytest.raises(DataError, match="where a few rows were expected"):
        asked(spec_of(server), tmp_path)


def test_a_damaged_file_of_answers_is_named(server: TargetServer, tmp_path: Path) -> None:
    asked(spec_of(server), tmp_path)
    damaged = sorted(tmp_path.glob("*.json"))[0]
    for text in ("[1, 2", "{}", '{"endpoint": "e", "answers": 3}'):
        damaged.write_text(text)
        with pytest.raises(StoreError, match=re.escape(str(damaged))):
            asked(spec_of(server), tmp_path)


# --- the token


def test_a_token_is_sent_and_told_to_nobody_else(
    server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, token_variable="CLINIC_TOKEN", retries=0)
    monkeypatch.setenv("CLINIC_TOKEN", "s3cret-value\n")
    asked(spec, tmp_path, IMAGES[:1])
    assert server.tokens == ["Bearer s3cret-value"]
    messages = []
    for reply in (Reply(403, "bad token s3cret-value"), Reply(500, "s3cret-value"), Reply(200, "s3cret-value")):
        server.replies = [reply]
        with pytest.raises(RaygridError) as raised:
            asked(spec, tmp_path)
        messages.append(str(raised.value))
    assert all("<token>" in message for message in messages)
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "s3cret" not in kept + "".join(messages) + caplog.text
    assert caplog.text  # something was logged


def test_a_token_that_is_not_there_is_named(
    server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
