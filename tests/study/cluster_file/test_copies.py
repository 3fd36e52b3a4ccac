"""check-cluster tries the rsync rules, and finds files that they copy or exclude by mistake."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster_files import INSTALL, TOKEN, VENV, changed, found, needs_rsync, sound
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.util import hash_runtime_conf

from raygrid.study.cluster_file.config import ClusterFile

pytestmark = needs_rsync

PARTS = ("raygrid", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")


def rules(*exclude: str, filters: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the sound file with other rules than `/.venv`."""
    rest = [rule for rule in sound()["rsync_exclude"] if rule != "/.venv"]
    return changed(rsync_exclude=[*exclude, *rest], rsync_filter=list(filters))


def test_the_options_are_those_of_ray() -> None:
    config = {"rsync_exclude": ["/.venv", "a b"], "rsync_filter": [".gitignore"]}
    ray = SSHCommandRunner._create_rsync_filter_args(None, config)
    assert ClusterFile({}, config).rsync_rules == ray


@pytest.mark.parametrize("rule", ["/.venv/**", "/.venv/*", "**/.venv/*", "**/.venv/**", ".venv/**"])
def test_an_environment_that_reaches_the_nodes_empty(place: Path, rule: str) -> None:
    ((text, is_fault),) = found(rules(rule), place)
    assert "~/project/.venv reaches the nodes as an empty folder" in text
    assert is_fault


@pytest.mark.parametrize("rule", ["/.venv", "/.venv/", ".venv", ".venv/", "**/.venv", "**/.venv/", ".venv***", ".v*"])
def test_an_environment_that_does_not_arrive(place: Path, rule: str) -> None:
    assert found(rules(rule), place) == []


@pytest.mark.parametrize("rule", ["/venv", "~/project/.venv", "./.venv", "project/.venv"])
def test_an_environment_that_is_copied(place: Path, rule: str) -> None:
    ((text, is_fault),) = found(rules(rule), place)
    assert "~/project/.venv is copied to every worker before setup_commands[1] creates it there" in text
    assert is_fault


@pytest.mark.parametrize(
    ("create", "test"),
    [
        ("uv venv ~/project/.venv", "[ -d ~/project/.venv ] ||"),
        ("uv venv $HOME/project/.venv", "test -e ${HOME}/project/.venv ||"),
        ("python3 -m venv /home/ubuntu/project/.venv", "ls ~/project/.venv >/dev/null 2>&1 ||"),
        ("uv venv", "cd ~/project; [ -d .venv ] ||"),
        ("uv sync --frozen", "cd /home/ubuntu/project; [ -d .venv ] ||"),
        ("virtualenv -p python3.11 .venv; fi", "cd project && if [ ! -d .venv ]; then"),
    ],
)
def test_a_test_that_an_empty_environment_passes(place: Path, create: str, test: str) -> None:
    setup = [sound()["setup_commands"][0], f"{test} {create}", INSTALL]
    (note,) = found(changed(setup_commands=setup), place)
    assert note == (
        "setup_commands[1]: tests only whether ~/project/.venv exists, so an empty or incomplete folder counts as an "
        "environment; test with [ -x ~/project/.venv/bin/python ]",
        False,
    )
    texts = [text for text, is_fault in found(rules("/.venv/**") | {"setup_commands": setup}, place) if is_fault]
    assert len(texts) == 1
    assert "setup_commands[1] then creates none, and no worker joins" in texts[0]


def test_an_environment_elsewhere_is_not_concerned(place: Path) -> None:
    elsewhere = [command.replace("~/project/.venv", "~/env") for command in sound()["setup_commands"]]
    assert found(rules("/.venv/**") | {"setup_commands": elsewhere}, place) == []


def test_the_ignore_file_of_uv_leaves_an_empty_environment(place: Path) -> None:
    ignored = place / "project" / ".gitignore"
    ignored.write_text("build/\n")
    ((text, _),) = found(rules(filters=(".gitignore",)), place)
    assert "~/project/.venv reaches the nodes as an empty folder" in text
    ignored.write_text("build/\n.venv\n")
    assert found(rules(filters=(".gitignore",)), place) == []


def test_a_filter_names_a_file_and_not_a_pattern(place: Path) -> None:
    ((text, is_fault),) = found(changed(rsync_filter=["- .venv"]), place)
    assert "project has no file '- .venv' with patterns" in text
    assert not is_fault


def test_a_filter_where_the_set_up_makes_no_environment(place: Path) -> None:
    (place / "project" / ".gitignore").write_text("/.venv/\n__pycache__/\n/data\n")
    (place / "project" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert found(changed(rsync_filter=[".gitignore"], setup_commands=[]), place) == []


def test_a_rule_that_rsync_refuses(place: Path) -> None:
    ((text, is_fault),) = (one for one in found(changed(rsync_filter=[""]), place) if one[1])
    assert text.startswith("rsync_exclude and rsync_filter: rsync refuses these rules: ")
    assert is_fault


def test_a_folder_that_rsync_lists_for_long_is_noted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def slow(words: list[str], **options: Any) -> Any:
        if words[0] == "rsync":
            raise subprocess.TimeoutExpired(words, options["timeout"])
        return run(words, **options)

    monkeypatch.setattr("subprocess.run", slow)
    ((text, is_fault),) = found(sound(), place)
    assert "rsync needs more than 60 seconds to list " in text
    assert text.endswith(
        "so the rules were not tried; exclude large folders, or mount only the folders that nodes need"
    )
    assert not is_fault


def test_files_that_the_head_gives_to_workers(place: Path) -> None:
    config = changed(
        file_mounts={**{f"~/project/{name}": f"project/{name}" for name in PARTS}, TOKEN: TOKEN},
        cluster_synced_files=["~/project"],
        rsync_exclude=["/.venv/*"],
    )
    ((text, _),) = found(config, place)
    assert "~/project/.venv reaches the nodes as an empty folder" in text
    assert found(config | {"rsync_exclude": ["/.venv"]}, place) == []


def test_folders_that_no_node_needs_are_noted(place: Path) -> None:
    notes = found(changed(rsync_exclude=["/.venv"]), place)
    assert [is_fault for _, is_fault in notes] == [False, False, False]
    assert [text.split()[1] for text, _ in notes] == ["project/.git", "project/studies", "project/data"]


def test_other_folders_may_be_empty(place: Path) -> None:
    assert found(changed(rsync_exclude=["/.venv", "/.git/**", "/studies/**", "/data/*"]), place) == []


def test_an_environment_of_the_laptop_is_noted(place: Path) -> None:
    (place / "project" / "env" / "bin").mkdir(parents=True)
    (place / "project" / "env" / "pyvenv.cfg").write_text("x" * 2_000_000)
    ((text, is_fault),) = found(sound(), place)
    assert "project/env is copied to every node (2.0 MB)" in text
    assert not is_fault
    ((text, is_fault),) = found(rules("/.venv", "/env/*"), place)
    assert "project/env reaches the nodes empty" in text
    assert not is_fault


def test_a_large_folder_is_noted(place: Path) -> None:
    (place / "project" / "images").mkdir()
    with (place / "project" / "images" / "all.npy").open("wb") as file:
        file.truncate(300_000_000)  # a hole, which takes no room
    ((text, _),) = found(sound(), place)
    assert "project/images is copied to every node (300.0 MB)" in text
    with (place / "project" / "images" / "all.npy").open("wb") as file:
        file.truncate(11_000_000_000)
    ((text, is_fault),) = found(rules("/.venv", "/images"), place)
    assert "ray up reads all 11.0 GB of project" in text
    assert not is_fault


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("data", "raygrid/data/__init__.py"),
        ("**/data", "raygrid/data/__init__.py"),
        ("*.json", "raygrid/data/table.json"),
        ("*.md", "README.md"),
        ("*.toml", "pyproject.toml"),
        ("/constraints.txt", "constraints.txt"),
        ("LICENSE", "LICENSE"),
    ],
)
def test_a_rule_that_excludes_a_needed_file(place: Path, rule: str, path: str) -> None:
    for mounts in ({"~/project": "project"}, {f"~/project/{name}": f"project/{name}" for name in PARTS}):
        faults = found(changed(file_mounts={**mounts, TOKEN: TOKEN}, rsync_exclude=[rule, "/.venv", "/.git"]), place)
        texts = [text for text, is_fault in faults if is_fault]
        assert len(texts) == 1
        assert texts[0].startswith(f"rsync_exclude: {rule!r} excludes ~/project/")
        assert f"~/project/{path}" in texts[0]


def test_a_filter_that_excludes_a_needed_file(place: Path) -> None:
    (place / "project" / ".gitignore").write_text(".venv\ndata/\n")
    ((text, is_fault),) = found(changed(rsync_filter=[".gitignore"]), place)
    assert text.startswith("rsync_filter: '.gitignore' excludes ~/project/raygrid/data/")
    assert is_fault


def test_tests_and_caches_are_not_needed(place: Path) -> None:
    for name in ("tests/__init__.py", "raygrid/__pycache__/x.pyc", "raygrid/fast.so", "raygrid/.hidden"):
        path = place / "project" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert found(rules("/.venv", "tests", "*.so", ".*"), place) == []


def test_a_file_that_no_mount_brings(place: Path) -> None:
    mounts = {f"~/project/{name}": f"project/{name}" for name in PARTS if name != "LICENSE"}
    config = changed(file_mounts={**mounts, TOKEN: TOKEN}, rsync_exclude=["__pycache__"])
    ((text, is_fault),) = found(config, place)
    assert text.startswith("file_mounts: expected an entry for ~/project/LICENSE")
    assert is_fault


def test_a_broken_link_stops_ray_up(place: Path) -> None:
    (place / "project" / "gone").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        hash_runtime_conf({"~/project": "project"}, None, None)
    ((text, is_fault),) = found(sound(), place)
    assert text.startswith("file_mounts: project/gone is a broken link")
    assert is_fault


def test_a_pipe_stops_ray_up(place: Path) -> None:
    os.mkfifo(place / "project" / "pipe")
    ((text, _),) = found(sound(), place)
    assert text.startswith("file_mounts: project/pipe is not a readable file")


def test_without_rsync_the_rules_are_not_tried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bash = place / "bin" / "bash"
    bash.parent.mkdir()
    bash.symlink_to(str(shutil.which("bash")))
    monkeypatch.setenv("PATH", str(bash.parent))
    ((text, is_fault),) = found(rules("/.venv/**"), place)
    assert text.startswith("rsync_exclude: not tried, because rsync is not installed on this machine")
    assert not is_fault


def test_the_environment_of_a_sound_file_is_the_one_that_is_tried(place: Path) -> None:
    assert VENV in sound()["setup_commands"]
    ((text, _),) = found(changed(rsync_exclude=["/.git", "/studies", "/data"]), place)
    assert "~/project/.venv is copied" in text
