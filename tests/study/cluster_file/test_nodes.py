"""What all nodes must have in common, and what Ray adds or accepts for each kind of provider."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster_files import HEAD_START, TOKEN, WORKER_START, changed, found, local, sound

BASHRC = "grep -q AUTH ~/.bashrc || echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc"
CONTAINER = {"image": "rayproject/ray:2.60.0", "container_name": "ray"}


def started(head: str, worker: str, **changes: Any) -> dict[str, Any]:
    """Return the sound file with other texts before `ray start`; "-" stands for a mode that is not set."""
    head_start, worker_start = (
        text.replace("RAY_AUTH_MODE=token ", "" if mode == "-" else mode)
        for text, mode in ((HEAD_START, head), (WORKER_START, worker))
    )
    return changed(head_start_ray_commands=[head_start], worker_start_ray_commands=[worker_start], **changes)


@pytest.mark.parametrize(
    ("head", "worker", "fault"),
    [
        ("-", "-", "RAY_AUTH_MODE is not set, and a head that has ~/.ray/auth_token"),
        ("-", "RAY_AUTH_MODE=token ", "RAY_AUTH_MODE is not set, but it is token on worker"),
        ("-", "RAY_AUTH_MODE=disabled ", "RAY_AUTH_MODE is not set, but it is disabled on worker"),
        ("RAY_AUTH_MODE=token ", "-", "RAY_AUTH_MODE is not set on worker, but token on the head"),
        ("RAY_AUTH_MODE=token ", "RAY_AUTH_MODE=token ray stop; ", "RAY_AUTH_MODE is not set on worker"),
        ("export RAY_AUTH_MODE='token'; ", "RAY_AUTH_MODE=disabled ", "RAY_AUTH_MODE is disabled on worker"),
        ("RAY_AUTH_MODE=disabled ", "RAY_AUTH_MODE=token ", "RAY_AUTH_MODE is disabled, but token on worker"),
    ],
)
def test_a_token_on_one_side_only(place: Path, head: str, worker: str, fault: str) -> None:
    ((text, is_fault),) = found(started(head, worker), place)
    assert fault in text
    assert is_fault


def test_only_a_head_switches_the_token_on_by_itself(place: Path) -> None:
    """The rule that the check relies on, in the functions that `ray start` calls first."""
    lines = [
        "from ray._private.authentication import authentication_token_setup as setup",
        "from ray._raylet import AuthenticationMode, get_authentication_mode",
        "setup.ensure_token_if_auth_enabled({}, create_token_if_missing=False)  # ray start --address",
        "print(get_authentication_mode() == AuthenticationMode.TOKEN)",
        "setup.maybe_enable_token_auth_if_token_available()  # ray start --head",
        "print(get_authentication_mode() == AuthenticationMode.TOKEN)",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("head", "worker"),
    [
        ("RAY_AUTH_MODE=token ", "export RAY_AUTH_MODE=TOKEN; ulimit -n 5; "),
        ("export RAY_AUTH_MODE=disabled && ", "RAY_AUTH_MODE=disabled "),
        ("RAY_AUTH_MODE=disabled ", "-"),  # a worker never switches it on by itself
        ("export RAY_AUTH_MODE=disabled; RAY_AUTH_MODE=token ", "env RAY_AUTH_MODE=token "),
        ("export RAY_AUTH_MODE=token; conda run -n x ", "RAY_AUTH_MODE=token nohup ~/.venv/bin/"),
    ],
)
def test_all_nodes_agree(place: Path, head: str, worker: str) -> None:
    assert found(started(head, worker), place) == []


def test_an_export_counts_only_in_the_shell_that_starts_ray(place: Path) -> None:
    setup = sound()["setup_commands"]
    assert found(started("-", "-", setup_commands=[*setup, BASHRC]), place) == []
    ((text, _),) = found(started("-", "-", setup_commands=[*setup, "export RAY_AUTH_MODE=token"]), place)
    assert "RAY_AUTH_MODE is not set" in text
    ((text, _),) = found(started("-", "-", head_setup_commands=[BASHRC]), place)
    assert "not set on worker, but token on the head" in text


def test_one_type_of_worker_has_its_own_set_up(place: Path) -> None:
    config = started("-", "-", setup_commands=[*sound()["setup_commands"], BASHRC])
    config["available_node_types"]["worker"]["worker_setup_commands"] = sound()["setup_commands"]
    ((text, _),) = found(config, place)
    assert "not set on worker, but token on the head" in text


def test_a_container_gets_the_mode_by_its_options(place: Path) -> None:
    docker = {**CONTAINER, "run_options": ["-v /shared:/shared", "-e RAY_AUTH_MODE=token"]}
    assert found(started("-", "-", docker=docker), place) == []


def test_the_mode_without_a_token(place: Path) -> None:
    mounts = {"~/project": "project"}
    ((text, is_fault),) = found(changed(file_mounts=mounts), place)
    assert "no entry copies the token to head, worker" in text
    assert is_fault
    assert found(changed(file_mounts={**mounts, "/home/ubuntu/.ray/": ".ray"}), place) == []
    assert found(changed(file_mounts=mounts, head_setup_commands=["fetch > ~/.ray/auth_token"]), place) != []
    setup = [*sound()["setup_commands"], "umask 077; fetch-secret > ~/.ray/auth_token"]
    assert found(changed(file_mounts=mounts, setup_commands=setup), place) == []
    assert found(started("RAY_AUTH_MODE=disabled ", "-", file_mounts=mounts), place) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_may_read(place: Path, mode: int) -> None:
    (place / ".ray" / "auth_token").chmod(mode)
    ((text, is_fault),) = found(sound(), place)
    assert f"expected mode 600 for ~/.ray/auth_token, got {mode:o}: " in text
    assert "run chmod 600 ~/.ray/auth_token" in text
    assert is_fault


def test_a_token_that_is_yet_to_be_made(place: Path) -> None:
    (place / ".ray" / "auth_token").unlink()
    ((text, is_fault),) = found(sound(), place)
    assert text.startswith(f"file_mounts: {TOKEN} does not exist")
    assert "(umask 077; ray get-auth-token --generate > /dev/null)" in text
    assert is_fault


@pytest.mark.parametrize("start", ["bash start.sh", "ray stop"])
def test_a_start_that_the_check_cannot_read_says_nothing_of_the_token(place: Path, start: str) -> None:
    assert found(changed(head_start_ray_commands=[start]), place) == []


@pytest.mark.parametrize(
    ("start", "reports"),
    [
        (HEAD_START.replace(" --disable-usage-stats", ""), True),
        (HEAD_START.replace("--disable-usage-stats", "--block"), True),
        ("export RAY_USAGE_STATS_ENABLED=0; " + HEAD_START.replace(" --disable-usage-stats", ""), False),
        ("RAY_USAGE_STATS_ENABLED=1 " + HEAD_START.replace(" --disable-usage-stats", ""), False),
    ],
)
def test_usage_statistics(place: Path, start: str, reports: bool) -> None:
    texts = [text for text, _ in found(changed(head_start_ray_commands=["ray stop", start]), place)]
    assert ["reports usage statistics" in text for text in texts] == [True] * reports
    assert all(text.startswith("head_start_ray_commands[1]: ") for text in texts)


def test_usage_statistics_may_be_decided_elsewhere(place: Path) -> None:
    start = ["ray stop", HEAD_START.replace(" --disable-usage-stats", "")]
    set_up = [*sound()["setup_commands"], "~/project/.venv/bin/ray disable-usage-stats"]
    assert found(changed(head_start_ray_commands=start, setup_commands=set_up), place) == []
    options = ["-v /shared:/shared", "-e RAY_USAGE_STATS_ENABLED=0"]
    docker = {"image": "rayproject/ray:2.60.0", "container_name": "ray", "run_options": options}
    assert found(changed(head_start_ray_commands=start, docker=docker), place) == []


@pytest.mark.parametrize(
    ("provider", "command"),
    [("aws", "pip install 'boto3>=1.4.8'"), ("gcp", "pip install google-api-python-client==1.7.8")],
)
def test_ray_installs_the_clouds_client(place: Path, provider: str, command: str) -> None:
    config = changed(provider={"type": provider}, head_setup_commands=None)
    for node in config["available_node_types"].values():
        node["resources"] = {"CPU": 2}
    ((text, is_fault),) = found(config, place)
    assert text.startswith(f"head_setup_commands: absent, so Ray runs {command!r} with the system's pip")
    assert is_fault
    assert found(config | {"head_setup_commands": []}, place) == []


def test_ray_installs_itself(place: Path) -> None:
    texts = [text for text, is_fault in found(changed(setup_commands=None), place) if is_fault]
    assert len(texts) == 1
    assert texts[0].startswith("setup_commands: absent, so Ray runs 'which ray || pip install -U")


def test_what_ray_adds_to_a_container_is_noted(place: Path) -> None:
    docker = {**CONTAINER, "run_options": ["-v /shared:/shared"]}
    ((text, is_fault),) = found(changed(head_setup_commands=None, docker=docker), place)
    assert "absent, so Ray runs" in text
    assert not is_fault


def test_the_start_that_ray_adds_is_checked_like_one_of_the_file(place: Path) -> None:
    faults = [text for text, is_fault in found(changed(head_start_ray_commands=None), place) if is_fault]
    assert [text.split(":")[0] for text in faults] == [
        "head_start_ray_commands",
        "head_start_ray_commands (Ray's default)",
        "head_start_ray_commands[1]",
    ]


@pytest.mark.parametrize(
    "config",
    [
        local(),
        local() | {"min_workers": 1},
        local() | {"min_workers": 1, "max_workers": 1},
        local() | {"min_workers": 3},  # Ray takes as many as there are
        local(coordinator_address="10.0.0.9:8000") | {"max_workers": 2},
        local(coordinator_address="10.0.0.9:8000") | {"max_workers": 2, "min_workers": 1},
        sound() | {"min_workers": 1},  # older files have it; Ray ignores it
    ],
)
def test_what_ray_up_accepts_is_accepted(place: Path, config: dict[str, Any]) -> None:
    assert found(config, place) == []


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (local(head_ip="10.0.0.1"), "supply a `head_ip` and list of `worker_ips`"),
        (local(coordinator_address="10.0.0.9:8000"), "`max_workers` is required"),
        (local() | {"max_workers": "two"}, "max_workers: 'two' is not of type 'integer'"),
        (local() | {"available_node_types": {"x": {}}}, "available_node_types is not supported"),
        (sound() | {"provider": {"type": "kubernetes"}}, "Unsupported node provider: kubernetes"),
        (sound() | {"provider": {"type": "vsphere"}, "available_node_types": {}}, "head_node_type"),
        (sound() | {"head_node": {"InstanceType": "m5"}}, "head_node"),
        (sound() | {"setup_commands": "one command"}, "setup_commands: 'one command' is not of type 'array'"),
        (sound() | {"head_setup_commands": None}, "head_setup_commands: None is not of type 'array'"),
        (sound() | {"available_node_types": ["head"]}, "available_node_types: ['head'] is not of type 'object'"),
        (sound() | {"provider": {"region": "x"}}, "expected a mapping with a type"),
        (sound() | {"auth": {1: "ubuntu"}}, "auth: "),
        (sound() | {"available_node_types": {1: {}}}, "keys: expected text before each colon"),
        (sound() | {"file_mounts": {"~/x": None}}, "file_mounts/~/x: expected a local path, got None"),
        ({"apiVersion": "ray.io/v1", "kind": "RayJob", "spec": {}}, "got a Kubernetes manifest (kind RayJob)"),
    ],
)
def test_what_ray_up_refuses_is_refused(place: Path, config: dict[str, Any], fault: str) -> None:
    ((text, is_fault),) = found(config, place)
    assert fault in text
    assert is_fault


@pytest.mark.parametrize("provider", ["gcp", "azure"])
def test_other_providers(place: Path, provider: str) -> None:
    config = sound() | {"provider": {"type": provider}}
    for node in config["available_node_types"].values():
        node["resources"] = {"CPU": 2}
    assert found(config, place) == []


def test_machines_whose_resources_are_not_given(place: Path) -> None:
    config = sound() | {"provider": {"type": "gcp"}}
    ((text, is_fault),) = found(config, place)
    assert text.startswith("available_node_types/worker: expected resources such as {CPU: 16, GPU: 1}, got none")
    assert is_fault
    config["available_node_types"]["worker"]["min_workers"] = 2  # they start in any case
    assert found(config, place) == []


@pytest.mark.parametrize(
    "node_config",
    [{"NetworkInterfaces": [{"Groups": ["sg-1"]}]}, {"LaunchTemplate": {"LaunchTemplateName": "x", "Version": "1"}}],
)
def test_security_groups_have_several_places(place: Path, node_config: dict[str, Any]) -> None:
    config = sound()
    config["available_node_types"]["worker"]["node_config"] = node_config
    assert found(config, place) == []
    config["available_node_types"]["worker"]["node_config"] = {}
    ((text, is_fault),) = found(config, place)
    assert "admits SSH from everywhere" in text
    assert is_fault
    config["provider"]["security_group"] = {"GroupName": "x"}
    assert found(config, place) == []


def test_a_cluster_without_workers_needs_no_autoscaler(place: Path) -> None:
    start = HEAD_START.replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", "")
    config = changed(head_start_ray_commands=["ray stop", start])
    assert [is_fault for _, is_fault in found(config, place)] == [True]
    assert found(config | {"max_workers": 0}, place) == []


def test_the_autoscaler_for_machines_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = local() | {"head_start_ray_commands": ["ray stop", HEAD_START]}
    ((text, is_fault),) = found(config, place)
    assert "set RAY_enable_autoscaler_v2=0 before ray start" in text
    assert is_fault
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "0")
    assert found(config, place) == []


def test_lists_that_ray_fills_in_for_machines_of_ones_own(place: Path) -> None:
    config = local()
    for key in ("setup_commands", "worker_setup_commands", "worker_start_ray_commands"):
        del config[key]
    config |= {"head_start_ray_commands": ["bash start.sh"], "rsync_exclude": []}
    notes = [text for text, _ in found(config, place) if text.startswith("worker_start_ray_commands")]
    assert notes == [
        "worker_start_ray_commands: absent, so Ray runs 'ray stop' and 'ray start --address=$RAY_HEAD_IP:6379'; add "
        "the list to choose the commands yourself"
    ]


def test_the_keys_of_the_user(place: Path) -> None:
    config = sound()
    config["auth"]["ssh_private_key"] = "~/.ssh/cluster.pem"
    ((text, _),) = found(config, place)
    assert text.startswith("auth/ssh_private_key: ~/.ssh/cluster.pem does not exist")
