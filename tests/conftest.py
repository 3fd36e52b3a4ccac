"""What all tests share: no cache of the machine is read or left behind, and one thread as in a trial.

Beside other work on the same cores, two threads that wait for each other at every operator are a hundred times slower.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports PyTorch

from raygrid.io.paths import CACHE_VARIABLE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, help="of each slow test in tests/fuzz (default: half a minute)")


@pytest.hookimpl(optionalhook=True)  # without xdist, or without -n, there is one process
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process of several, and all files that need Ray, which is started once."""
    from xdist.scheduler import LoadScopeScheduling

    with_ray = {
        path.relative_to(config.rootpath).as_posix()
        for path in Path(__file__).parent.rglob("test_*.py")
        if "ray_session" in path.read_text()
    }

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "Ray" if file in with_ray else file

    return ByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Give the session a cache folder of its own; Ray's workers inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Let SIGINT do what it does in the foreground: where a shell starts tests in the background, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ray_session(own_cache):
    """Give the session one Ray cluster of two CPUs, which `raygrid.study.cluster.connected` then uses."""
    from raygrid.study.cluster import connected

    with connected(None, num_cpus=2) as ray:
        yield ray


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, own_cache):
    """Prepared samples of `toy_zoo`, read-only."""
    from toy_zoo import make_samples

    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, own_cache):
    """The folder of `tiny_grid`, run undisturbed on this machine's disk; to be left as it is."""
    from grid_runs import run

    output = tmp_path_factory.mktemp("undisturbed")
    text = run(output)
    assert "nothing is missing" in text
    return output


@pytest.fixture(scope="session")
def target_files(tmp_path_factory: pytest.TempPathFactory):
    """Files of the network of `target_models`, in every form a target comes in; read-only."""
    from target_models import save_files

    return save_files(tmp_path_factory.mktemp("targets"))


@pytest.fixture
def server():
    """A target server that answers with the brightness of images."""
    from endpoint_cases import brightness
    from target_server import TargetServer

    with TargetServer(brightness) as server:
        yield server
