"""One driver per folder in object storage: leases, their expiry, and takeovers."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server

from raygrid.errors import StoreError
from raygrid.io import heartbeat
from raygrid.io.files import read_json, write_text
from raygrid.io.heartbeat import HeartbeatTiming
from raygrid.io.lease import lease
from raygrid.io.mirror import exists

QUICK = HeartbeatTiming(renew_s=0.2, stale_s=4.0, settle_s=0.1)


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


@pytest.mark.usefixtures("quick_heartbeat")
def test_of_two_simultaneous_drivers_the_overwritten_one_is_refused(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}

    def overwrite(_: float) -> None:  # between the lease and its check
        server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())

    monkeypatch.setattr("raygrid.io.heartbeat.time.sleep", overwrite)
    with pytest.raises(StoreError, match=r'in use by another driver: {"host": "other"'), lease(nodes[0]):
        pass


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
