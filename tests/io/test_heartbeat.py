"""One driver per folder in object storage: leases, their expiry, and takeovers."""

import json
import os
import random
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from s3_server import BUCKET, S3Server

from raygrid.errors import StoreError
from raygrid.io import heartbeat
from raygrid.io.files import read_json, write_text
from raygrid.io.heartbeat import HeartbeatTiming, hold_folder
from raygrid.io.lease import lease
from raygrid.io.mirror import exists, remove
from raygrid.io.object_storage import Remote, parse

QUICK = HeartbeatTiming(renew_s=0.2, stale_s=4.0)


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TIMING", QUICK)


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_second_driver_on_another_node_is_refused_while_the_first_lives(nodes: tuple[Path, Path], url: str) -> None:
    first, second = nodes
    with lease(first):
        time.sleep(QUICK.stale_s + 1)  # longer than an unrenewed lease lasts
        with pytest.raises(StoreError, match=f'"pid": {os.getpid()}') as caught, lease(second):
            pass
        assert url in str(caught.value)
    with lease(second):  # the lease has been released
        pass


@pytest.mark.usefixtures("quick_heartbeat")
def test_an_expired_lease_is_taken_over(nodes: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    claim = {"host": "gone", "pid": 1, "since": "then", "token": "t", "mirror": "m"}
    server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
    with pytest.raises(StoreError, match='"host": "gone"'), lease(nodes[0]):
        pass
    time.sleep(QUICK.stale_s + 1)
    with lease(nodes[0]):
        assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["pid"] == os.getpid()
    assert set(server.objects(tmp_path.name)) == set()  # neither lease nor probe


@pytest.mark.usefixtures("quick_heartbeat")
def test_the_lease_of_a_dead_driver_on_this_node_is_taken_over_at_once(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    identity = read_json(nodes[0] / ".raygrid-mirror.json")["identity"]
    claim = {"host": "here", "pid": 1, "since": "then", "token": "t", "mirror": identity}
    server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
    with lease(nodes[0]):
        assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["pid"] == os.getpid()


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("on_ctrl_c", [signal.default_int_handler, signal.SIG_IGN])  # SIG_IGN: as in a background job
def test_a_driver_stops_when_another_takes_over(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, on_ctrl_c: Any
) -> None:
    claim = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}
    begun = time.monotonic()

    def work() -> None:
        with lease(nodes[0]):
            while time.monotonic() - begun < 60:  # again and again: a renewal may overwrite the lease
                server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
                time.sleep(0.5)

    before = signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        with pytest.raises(StoreError, match=r'taken over by another driver: {"host": "other"'):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 30
    assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["token"] == "t"  # the lease of the other driver stays


def answer_slowly(server: S3Server, longest_s: float) -> None:
    """Delay each answer of the server by a random time, so that the requests of several drivers mix."""
    delays = random.Random(1)

    def delay(method: str, path: str) -> bool:
        time.sleep(delays.uniform(0, longest_s))
        return False

    server.refusing = delay


@pytest.mark.usefixtures("quick_heartbeat")
def test_of_drivers_that_start_at_the_same_moment_one_holds_the_folder(server: S3Server, tmp_path: Path) -> None:
    answer_slowly(server, 0.05)
    for attempt in range(10):
        remote, start, ended = parse(server.url(f"{tmp_path.name}-{attempt}")), Barrier(3), Barrier(3)

        def drive(identity: str, remote: Remote = remote, start: Barrier = start, ended: Barrier = ended) -> str:
            start.wait(60)
            try:
                with hold_folder(remote, identity):
                    ended.wait(60)
                    return "held"
            except StoreError as error:
                ended.wait(60)
                return str(error)

        with ThreadPoolExecutor(3) as pool:
            said = sorted(pool.map(drive, "abc"))
        assert said[0] == "held"
        assert all(f'in use by another driver: {{"host": "{socket.gethostname()}"' in text for text in said[1:]), said
        assert set(server.objects(remote.prefix)) == set()  # neither lease nor announcement


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_driver_waits_for_one_that_has_announced_itself(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    """It may be about to write the lease. If it died instead, its announcement expires."""
    announced = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}
    server.put(f"{tmp_path.name}/driver-probe-t", json.dumps(announced).encode())
    begun = time.monotonic()
    with lease(nodes[0]):
        assert time.monotonic() - begun > QUICK.stale_s - 1  # the server's times are in whole seconds


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_driver_notices_that_the_one_it_met_has_just_written_its_lease(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    claim = json.dumps({"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}).encode()
    server.put(f"{tmp_path.name}/driver-probe-t", claim)

    def finish(method: str, path: str) -> bool:  # between the listing and the reading of the announcement
        if (method, path) == ("GET", f"/{BUCKET}/{tmp_path.name}/driver-probe-t"):
            server.refusing = lambda method, path: False
            server.put(f"{tmp_path.name}/driver.json", claim)
            server.delete(f"{tmp_path.name}/driver-probe-t")
        return False

    server.refusing = finish
    with pytest.raises(StoreError, match=r'in use by another driver: {"host": "other"'), lease(nodes[0]):
        pass
    assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["token"] == "t"


def sleep_until_the_lease_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + QUICK.stale_s)  # time.monotonic stands still during sleep


@pytest.fixture
def no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver whose heartbeat has not run since the machine awoke."""
    monkeypatch.setattr(heartbeat, "TIMING", replace(QUICK, renew_s=3600))


@pytest.mark.usefixtures("no_renewals")
def test_a_driver_that_slept_writes_nothing_into_a_study_taken_over(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}

    def work() -> None:
        with lease(nodes[0]):
            write_text(nodes[0] / "a", "before")
            server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
            sleep_until_the_lease_is_old(monkeypatch)
            with pytest.raises(StoreError, match="taken over by another driver"):
                remove(nodes[0] / "a")
            write_text(nodes[0] / "a", "after")

    with pytest.raises(StoreError, match=r'taken over by another driver: {"host": "other"'):
        work()
    assert server.get(f"{tmp_path.name}/a") == b"before"
    assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["token"] == "t"


def puts(server: S3Server) -> list[str]:
    """Return the names of the files written, without the empty objects by which pyarrow marks folders."""
    names = [path.rpartition("/")[2] for method, path in server.requests if method == "PUT"]
    return [name for name in names if name]


@pytest.mark.usefixtures("no_renewals")
def test_a_driver_that_slept_renews_its_lease_before_it_writes(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease(nodes[0]):
        sleep_until_the_lease_is_old(monkeypatch)
        server.requests.clear()
        write_text(nodes[0] / "a", "after")
        assert puts(server)[-2:] == ["driver.json", "a"]
        write_text(nodes[0] / "b", "after")
        assert puts(server)[-2:] == ["a", "b"]  # the lease is fresh
    assert server.get(f"{tmp_path.name}/a") == b"after"


def wait_for_requests(server: S3Server, count: int) -> None:
    last, deadline = len(server.requests) + count, time.monotonic() + 60
    while len(server.requests) < last:
        assert time.monotonic() < deadline, "the driver does not renew its lease"
        time.sleep(0.05)


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_driver_survives_a_pause_of_the_server(nodes: tuple[Path, Path], server: S3Server) -> None:
    with lease(nodes[0]):
        server.refusing = lambda method, path: True
        wait_for_requests(server, 6)  # more than one renewal
        server.refusing = lambda method, path: False
        wait_for_requests(server, 6)
        write_text(nodes[0] / "a", "text")
    assert exists(nodes[0] / "a")
