"""A local cluster is for this machine alone; what is said when one cannot be joined."""

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import family
from ray.exceptions import AuthenticationError

from raygrid.errors import ClusterError
from raygrid.study import cluster
from raygrid.study.cluster import private_token, read_resources, start_or_join


class NoCluster:
    """Stands for the module `ray` where joining fails."""

    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def init(self, **_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster") from self._cause


@pytest.mark.parametrize(
    ("cause", "hint"), [(AuthenticationError("InvalidAuthToken"), "set RAY_AUTH_MODE=token"), (OSError("refused"), "")]
)
def test_a_cluster_that_asks_for_a_token_is_told_apart(cause: Exception, hint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no Ray cluster at ray://{address}: Failed to connect") as caught:
            start_or_join(NoCluster(cause), f"ray://{address}", None)
    assert ("requires a token" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)


@pytest.mark.parametrize("way", ["by name", "auto"])
def test_an_address_where_nothing_answers_is_told_in_time(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", f"ray://{address}")
    monkeypatch.setattr(cluster, "JOIN_TIMEOUT_S", 1)
    with pytest.raises(ClusterError, match=r"no Ray cluster at .*: no answer") as caught:
        start_or_join(NoCluster(OSError()), "auto" if way == "auto" else f"ray://{address}", None)
    assert ("another run" in str(caught.value)) == (way == "auto")
    shown = f"auto ({address})" if way == "auto" else address
    assert shown in str(caught.value)
    assert capsys.readouterr().out == f"cluster: waiting for {shown}\n"


class SlowRay:
    """Stands for the module `ray` on a busy machine: a number of starts outlast Ray's fixed time limit."""

    MESSAGE = "The current node timed out during startup. This could happen because some of the raylet failed"

    def __init__(self, num_failures: int) -> None:
        self.failures_left, self.num_starts = num_failures, 0

    def init(self, **_: object) -> None:
        self.num_starts += 1
        if self.failures_left:
            self.failures_left -= 1
            raise Exception(self.MESSAGE)  # as bare as Ray raises it


def test_a_slow_start_of_ray_is_tried_once_more(capsys: pytest.CaptureFixture[str]) -> None:
    ray = SlowRay(1)
    start_or_join(ray, None, 1)
    assert ray.num_starts == 2
    assert "retrying once" in capsys.readouterr().out


def test_a_second_slow_start_ends_in_one_sentence_with_a_remedy() -> None:
    ray = SlowRay(2)
    with pytest.raises(ClusterError, match="no Ray cluster on this machine: The current node timed out") as caught:
        start_or_join(ray, None, 1)
    assert ray.num_starts == 2
    assert "wait until this machine is less busy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_failure_of_ray_gets_no_advice_about_a_busy_machine() -> None:
    with pytest.raises(ClusterError, match="no Ray cluster on this machine: Failed to connect") as caught:
        start_or_join(NoCluster(OSError("refused")), None, 1)
    assert "busy" not in str(caught.value)


LISTENING = "0A"  # in /proc/net/tcp


def sockets_of(process: int) -> Iterator[str]:
    for link in Path(f"/proc/{process}/fd").glob("*"):
        try:
            yield os.readlink(link)
        except OSError:
            continue


def address_of(written: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address of /proc/net: words of four bytes, each the wrong way round."""
    data = bytes.fromhex(written)
    address = ipaddress.ip_address(b"".join(data[k : k + 4][::-1] for k in range(0, len(data), 4)))
    return getattr(address, "ipv4_mapped", None) or address


def listening(process: int) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return where a process and all below it listen."""
    own = {name for member in family(process) for name in sockets_of(member)}
    found = set()
    for table in ("tcp", "tcp6"):
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        found |= {address_of(r[1].split(":")[0]) for r in rows if r[3] == LISTENING and f"socket:[{r[9]}]" in own}
    return found


def test_a_local_cluster_answers_on_the_loopback_interface_only(ray_session) -> None:
    worker = ray_session.get(ray_session.remote(lambda: os.getpid()).remote())
    assert worker in family(os.getpid())
    assert listening(os.getpid()) == {ipaddress.ip_address("127.0.0.1")}
    assert not read_resources(ray_session).may_grow


@pytest.mark.parametrize(("was", "mode"), [(None, 0o600), ("mine", 0o640)])
def test_a_token_that_ray_makes_is_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str | None, mode: int
) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    if was is not None:
        token.write_text(was)
        token.chmod(mode)
    with private_token():
        token.write_text(was or "made by Ray")
    assert stat.S_IMODE(token.stat().st_mode) == mode
