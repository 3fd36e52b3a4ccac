"""An endpoint gets each image once, at the declared rate and within its budget."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ask_endpoint import BATCH, batch_of
from endpoint_cases import EXPECTED, IMAGES, SIZE, asked, brightness, patient, spec_of
from target_server import WAIT_S, TargetServer

from raygrid.errors import BudgetSpentError, DataError
from raygrid.spec import AnswerSpec, EndpointSpec
from raygrid.targets import check_target, open_target
from raygrid.targets.rate_limit import RateLimiter

# --- for nothing twice


def test_an_image_is_sent_once(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server)
    twice = torch.cat([IMAGES, IMAGES.flip(0)])
    assert asked(spec, tmp_path, twice) == pytest.approx(np.concatenate([EXPECTED, EXPECTED[::-1]]), abs=1e-6)
    assert [len(images) for images in server.requests] == [4, 2]
    assert asked(spec, tmp_path) == pytest.approx(EXPECTED, abs=1e-6)  # opened anew
    assert set(server.counts.values()) == {1}
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert not list(tmp_path.glob("*.asked"))


def test_requests_hold_only_images_without_an_answer(server: TargetServer, tmp_path: Path) -> None:
    asked(spec_of(server), tmp_path, IMAGES[::3])
    asked(spec_of(server), tmp_path)
    assert [len(images) for images in server.requests] == [2, 4]


def test_answers_are_kept_by_image_and_endpoint_version(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=12)
    asked(spec, tmp_path)
    likely = replace(spec, answer=AnswerSpec(kind="probability"))
    with pytest.raises(DataError, match="expected a probability from 0 to 1"):  # read from what was kept
        asked(likely, tmp_path)
    assert len(server.requests) == 2
    asked(replace(spec, endpoint=replace(spec.endpoint, version="2")), tmp_path)
    assert set(server.counts.values()) == {2}
    other = replace(spec, endpoint=replace(spec.endpoint, version="3"))
    with pytest.raises(BudgetSpentError, match="12 images were sent"):  # to either version
        asked(other, tmp_path)


def test_concurrent_processes_read_each_others_answers(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server)
    first, second = (patient(spec, tmp_path)[0] for _ in range(2))
    assert first(IMAGES) == pytest.approx(EXPECTED)
    assert second(IMAGES) == pytest.approx(EXPECTED)  # opened before there was any
    assert set(server.counts.values()) == {1}


def test_a_kill_loses_only_the_request_in_progress(server: TargetServer, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "helpers" / "ask_endpoint.py"),
        server.url,
        str(tmp_path),
        "4",
    ]
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


def test_a_killed_request_counts_until_it_is_repeated(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=6)
    found, _ = patient(spec, tmp_path)
    leftover = tmp_path / "0123.asked"
    leftover.write_text(json.dumps({"endpoint": found.store.endpoint, "images": ["a" * 64]}))
    with pytest.raises(BudgetSpentError, match="5 images were sent"):
        found(IMAGES)
    assert len(server.counts) == 4
    assert found.store.num_sent == 5


# --- within a budget


def test_a_budget_is_never_exceeded(server: TargetServer, tmp_path: Path) -> None:
    spec = spec_of(server, max_images=5)
    with pytest.raises(
        BudgetSpentError, match=r"4 images were sent .* 2 more would exceed max_images=5; every answer is"
    ):
        asked(spec, tmp_path)
    assert len(server.requests) == 1
    assert asked(spec, tmp_path, IMAGES[:4]) == pytest.approx(EXPECTED[:4], abs=1e-6)  # these are known
    more = replace(spec, endpoint=replace(spec.endpoint, max_images=6))
    assert asked(more, tmp_path) == pytest.approx(EXPECTED, abs=1e-6)
    assert server.counts.total() == 6


def test_a_budget_counts_requests_of_others_in_progress(server: TargetServer, tmp_path: Path) -> None:
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
        (lambda images: [[image.mean() / 255] for image in images], "as probabilities are; expected logits"),
        (lambda images: [[0.25]] * len(images), "expected different answers"),
    ],
)
def test_the_check_sends_black_and_white_only_if_answers_are_suspicious(
    answer: Any, message: str, tmp_path: Path
) -> None:
    levels = np.array([20, 60, 100], np.uint8)[:, None, None, None] * np.ones((1, SIZE, SIZE, 1), np.uint8)
    with TargetServer(answer) as server:
        spec = spec_of(server)
        found = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=tmp_path)
        with pytest.raises(DataError, match=message):
            check_target(spec, found, levels)
        assert server.counts.total() == 5


# --- slowly


def test_workers_share_the_turns_of_one_url() -> None:
    now, waits = [1000.0], []
    limiters = [
        RateLimiter("http://127.0.0.1/a", 2.0, clock=lambda: now[0], sleep=waits.append),
        RateLimiter("http://127.0.0.1/a", 2.0, clock=lambda: now[0], sleep=waits.append),
        RateLimiter("http://127.0.0.1/b", 2.0, clock=lambda: now[0], sleep=waits.append),
    ]
    for limiter in limiters:
        limiter.wait()
    limiters[0].wait()
    assert waits == [0.5, 1.0]
    now[0] += 60
    limiters[1].wait()
    assert waits == [0.5, 1.0]
    limiters[0].postpone(20)
    limiters[1].wait()
    assert waits[2:] == [20]


def test_a_turn_from_a_wrong_clock_is_ignored() -> None:
    RateLimiter("http://127.0.0.1/c", 1.0, clock=lambda: 1e9, sleep=lambda _: None).wait()
    waits: list[float] = []
    RateLimiter("http://127.0.0.1/c", 1.0, clock=lambda: 1000.0, sleep=waits.append).wait()
    assert waits == []


def test_the_declared_rate_is_kept(server: TargetServer, tmp_path: Path) -> None:
    start = time.monotonic()
    asked(spec_of(server, batch_size=1, requests_per_second=20), tmp_path)
    assert time.monotonic() - start >= 5 / 20
    assert len(server.requests) == 6
    assert EndpointSpec().requests_per_second == 2  # unless told otherwise
