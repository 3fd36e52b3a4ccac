"""The commands of a cluster file are read for what fails on a new node."""

import re
from pathlib import Path
from typing import Any

import cluster_files
import pytest
from cluster_files import MOUNT, WRITABLE, changed, found, sound

DOCKER = {"image": "rayproject/ray:2.60.0", "container_name": "ray", "run_options": ["-v /shared:/shared"]}
UPDATE = "sudo apt-get update"
APT = "sudo apt-get -o DPkg::Lock::Timeout=300 install -y x"


def after_setup(*commands: str) -> dict[str, Any]:
    return changed(setup_commands=[*sound()["setup_commands"], *commands])


def with_initialization(*commands: str, **changes: Any) -> dict[str, Any]:
    return changed(initialization_commands=list(commands), **changes)


def test_nothing_is_found_in_a_sound_file(place: Path) -> None:
    assert found(sound(), place) == []


@pytest.mark.parametrize(
    "command",
    [
        "pip install x",
        "pip3 -q install -U x",
        "python3 -m pip install x",
        "/usr/bin/python3.12 -m pip install --user x",
        "sudo pip install x",
        "sudo -H bash -c 'pip install x'",
        "bash -lc 'cd ~/project && pip install -e .'",
        "which ray || pip install 'ray[default]'",
        "cd ~/project\npip install -r requirements.txt\n",
        "uv pip install --system x",
        "source ~/venv/bin/activate && sudo pip install x",
        "python3 -m venv ~/venv; pip install x",
    ],
)
def test_the_systems_pip_is_noted(place: Path, command: str) -> None:
    ((text, is_fault),) = found(after_setup(command), place)
    assert text.startswith("setup_commands[3]: ")
    assert "uses the system's pip" in text
    assert not is_fault  # older images allow it


def test_other_pips_are_not(place: Path) -> None:
    commands = [
        "uv pip install x",
        "~/.uv/bin/uv pip install --python .venv/bin/python x",
        "uv pip install --system --break-system-packages x",
        "~/venv/bin/pip install x",
        ".venv/bin/python -m pip install x",
        "/opt/conda/bin/pip install x",
        "python3 -m venv X && X/bin/pip install x",
        "source ~/venv/bin/activate && pip install x",
        ". ~/venv/bin/activate\npip install x",
        "conda activate y && pip install x",
        "conda run -n y pip install x",
        "poetry run pip install x",
        "export PATH=$HOME/venv/bin:$PATH; pip install x",
        "PATH=~/venv/bin:$PATH pip install x",
        "bash -c 'source ~/venv/bin/activate; pip install x'",
        "pip install --break-system-packages x",
        "PIP_BREAK_SYSTEM_PACKAGES=1 pip install x",
        "pip --version && pip list",
        "echo pip install x",
        "pipx install x",
        "sudo docker run --rm image pip install x",
    ]
    assert found(after_setup(*commands), place) == []


def test_an_environment_of_the_shells_start_up_file_counts_from_the_next_command(place: Path) -> None:
    activate = "grep -q activate ~/.bashrc || echo '. ~/venv/bin/activate' >> ~/.bashrc"
    assert found(after_setup(activate, "pip install x"), place) == []
    ((text, _),) = found(after_setup("pip install x", activate), place)
    assert text.startswith("setup_commands[3]: 'pip install x'")


def test_conda_puts_its_environment_into_the_start_up_file(place: Path) -> None:
    assert found(after_setup("~/miniconda3/bin/conda init bash", "pip install x"), place) == []


def test_a_container_has_a_pip_of_its_own_and_its_host_has_not(place: Path) -> None:
    assert found(after_setup("pip install x") | {"docker": DOCKER}, place) == []
    initialization = [*sound()["initialization_commands"], "pip install x"]
    ((text, _),) = found(with_initialization(*initialization, docker=DOCKER), place)
    assert text.startswith("initialization_commands[4]: 'pip install x' uses the system's pip")


@pytest.mark.parametrize(
    ("commands", "faults"),
    [
        ([UPDATE, APT], []),
        ([UPDATE, "sudo apt-get install -y x"], ["holds dpkg's lock"]),
        ([UPDATE, "sudo DEBIAN_FRONTEND=noninteractive apt -y -q install x"], ["holds dpkg's lock"]),
        ([APT], ["run apt-get update before it"]),
        ([APT, UPDATE], ["run apt-get update before it"]),
        (["sudo apt-get install -y x"], ["holds dpkg's lock", "run apt-get update before it"]),
        (["sudo bash -c 'apt-get update && apt-get install -y x'"], ["holds dpkg's lock"]),
        (["sudo apt-get update && sudo apt-get -o=Dpkg::Lock::timeout=60 install -yq x"], []),
        (["cloud-init status --wait", UPDATE, "sudo apt-get install -y x"], []),
        (["while sudo fuser /var/lib/dpkg/lock; do sleep 1; done", UPDATE, "sudo apt-get install -y x"], []),
        (
            [
                "echo 'DPkg::Lock::Timeout \"300\";' | sudo tee /etc/apt/apt.conf.d/99wait",
                UPDATE,
                "sudo apt install -y x",
            ],
            [],
        ),
        ([UPDATE, APT.replace(" -y", "")], ["asks for confirmation"]),
        ([UPDATE, "dpkg -s x > /dev/null || " + APT], []),
        (["sudo add-apt-repository -y ppa:x/y && " + APT], []),
        (["until sudo apt-get update && sudo apt-get install -y x; do sleep 5; done"], []),
        ([UPDATE, "for i in 1 2 3; do sudo apt-get install -y x && break || sleep 9; done"], []),
        (["sudo pkill -9 apt-get || true; sudo dpkg --configure -a", UPDATE, "sudo apt-get install -y x"], []),
        ([UPDATE, "yes | " + APT.replace(" -y", "")], []),
    ],
)
def test_apt_waits_and_has_fresh_lists(place: Path, commands: list[str], faults: list[str]) -> None:
    texts = [text for text, _ in found(with_initialization(*commands), place)]
    assert len(texts) == len(faults)
    assert all(fault in text for text, fault in zip(texts, faults, strict=True))


def test_a_machine_of_ones_own_has_no_first_boot(place: Path) -> None:
    config = cluster_files.local() | {"initialization_commands": ["sudo apt-get install -y x"]}
    assert [is_fault for _, is_fault in found(config, place)] == [False, False]
    config = with_initialization("sudo apt-get install -y x")
    assert [is_fault for _, is_fault in found(config, place)] == [True, True]


def test_an_image_has_no_upgrades_of_its_own_but_also_no_lists(place: Path) -> None:
    ((text, is_fault),) = found(after_setup("sudo apt-get install -y x") | {"docker": DOCKER}, place)
    assert "run apt-get update before it" in text
    assert is_fault


@pytest.mark.parametrize(
    "commands",
    [
        [MOUNT],
        [MOUNT, "sudo mkdir -p /shared/studies"],
        [WRITABLE, MOUNT],
        [MOUNT, "sudo chmod 755 /shared"],
        [MOUNT, 'sudo chown "$USER" /other'],
        ["sudo bash -c 'mkdir -p /shared; mountpoint -q /shared || mount -t efs -o tls fs-1:/ /shared'"],
        ["sudo mount.nfs4 fs-1:/ /shared"],
        ["sudo mount /shared"],
        ["sudo mount -t ext4 /dev/nvme1n1 /shared"],
        ["sudo gcsfuse bucket /shared"],
        [
            "grep -q /shared /etc/fstab || echo 'fs-1:/ /shared nfs4 hard 0 0' | sudo tee -a /etc/fstab",
            "sudo mount -a",
        ],
    ],
)
def test_a_mounted_folder_belongs_to_root(place: Path, commands: list[str]) -> None:
    guarded = (re.sub("^(?=sudo mount)", "mountpoint -q /shared || ", command) for command in commands)
    ((text, is_fault),) = found(with_initialization(*guarded), place)
    assert "/shared belongs to root after the mount" in text
    assert is_fault


@pytest.mark.parametrize(
    "commands",
    [
        [MOUNT, WRITABLE],
        [MOUNT, "sudo chown ubuntu:ubuntu /shared"],
        [MOUNT, "sudo chmod a+rwx /shared/"],
        [MOUNT, "sudo chmod 1777 /shared"],
        [MOUNT, "sudo mkdir -p /shared/studies && sudo chown ubuntu /shared/studies"],
        [MOUNT, "sudo install -d -o ubuntu /shared/studies"],
        [MOUNT, "test -w /shared || exit 1"],
        [MOUNT.replace("/shared", "/mnt/shared"), "sudo chown -R ubuntu /mnt"],
        [MOUNT.replace("-t nfs4", "-t nfs4 -o ro,hard")],
        ["sudo mount -t tmpfs tmpfs /scratch"],
        ["sudo mount --bind /a /b"],
        ["sudo mount -t efs -o tls,accesspoint=fsap-1 fs-1:/ /shared"],
        ["sudo mount -o remount,size=8G /dev/shm"],
        ["sudo mount -t cifs -o username=u,uid=1000 //host/share /shared"],
        ["gcsfuse bucket /shared"],
        ["sudo gcsfuse -o allow_other --uid 1000 bucket /shared"],
        ["sudo s3fs bucket /shared -o allow_other,umask=000"],
        ["sudo mount -a"],
    ],
)
def test_a_folder_that_the_user_may_write_is_in_order(place: Path, commands: list[str]) -> None:
    assert found(with_initialization(f"mountpoint -q /shared || {commands[0]}", *commands[1:]), place) == []


def test_a_mount_in_the_set_up_of_one_type_of_worker(place: Path) -> None:
    config = sound()
    mount = f"mountpoint -q /scratch || {MOUNT.replace('/shared', '/scratch')}"
    config["available_node_types"]["worker"]["worker_setup_commands"] = [*config["setup_commands"], mount]
    ((text, _),) = found(config, place)
    assert text.startswith("available_node_types/worker/worker_setup_commands[3]: /scratch belongs to root")
    config["auth"]["ssh_user"] = "root"
    assert found(config, place) == []


def test_a_container_sees_a_mount_of_its_host_only_as_a_volume(place: Path) -> None:
    assert found(changed(docker=DOCKER), place) == []
    ((text, is_fault),) = found(changed(docker={**DOCKER, "run_options": []}), place)
    assert "add -v /shared:/shared to docker/run_options" in text
    assert not is_fault


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("mkdir ~/results", "use mkdir -p"),
        ("sudo mkdir -m 755 /results && echo made", "use mkdir -p"),
        ("set -e\nmkdir ~/results\necho made\n", "use mkdir -p"),
        ("git clone https://host/x.git", "test for the folder first"),
        ("git -C ~/src clone https://host/x.git", "test for the folder first"),
        ("[ -d ~/x ] && echo there; git clone https://host/x.git ~/x", "test for the folder first"),
        ("sudo adduser --system reader", "test with id NAME"),
        ("sudo mount -t lustre fs-1@tcp:/x /other && sudo chown ubuntu /other", "test with mountpoint -q"),
        ("cd ~/project && ln -s /shared/data link", "use ln -sfn"),
        ("sudo useradd reader", "test with id NAME"),
        ("~/.uv/bin/uv venv ~/project/.venv", "test with [ -x ~/project/.venv/bin/python ]"),
        ("cd ~/project && uv venv -q", "test with [ -x ~/project/.venv/bin/python ]"),
        ("sudo mkfs.ext4 /dev/nvme1n1; true", "check with blkid first"),
    ],
)
def test_a_command_that_fails_at_its_second_run(place: Path, command: str, remedy: str) -> None:
    config = changed(setup_commands=[sound()["setup_commands"][0], command])
    ((text, is_fault),) = found(config, place)
    assert text.startswith("setup_commands[1]: ")
    assert "workers run the set-up commands twice" in text
    assert remedy in text
    assert is_fault


def test_commands_that_may_run_twice(place: Path) -> None:
    commands = [
        "mkdir -p ~/results",
        "mkdir -pv ~/results",
        "[ -d ~/results ] || mkdir ~/results",
        "mkdir ~/results || true",
        "mkdir ~/results; echo made",  # its status is that of echo
        "if [ ! -d x ]; then git clone https://host/x.git; fi",
        "git clone https://host/x.git || git -C x pull",
        "rm -rf x && git clone https://host/x.git",
        "ln -sfn /shared/data link",
        "id reader || sudo useradd reader",
        "uv venv --clear ~/.other",
        "UV_VENV_CLEAR=1 uv venv ~/.other",
        "[ -d ~/other ] && rm -rf ~/other; uv venv ~/other",
        "mkdir -p ~/other && cd ~/other && rm -rf .venv && uv venv",
        "sudo umount /other; mkdir -p /other",
        "uv venv --allow-existing ~/.other",
        "python3 -m venv ~/.other",
        "sudo blkid /dev/nvme1n1 || sudo mkfs.ext4 /dev/nvme1n1",
        "grep -q project ~/.bashrc || echo 'cd project' >> ~/.bashrc",
        "echo text > ~/file",
        "cat > ~/file <<EOF\nmkdir x\nEOF",
        "[ -d ~/x ] && exit 0\ngit clone https://host/x.git ~/x",
        "git submodule add clone",
        "folder=$(mktemp -d); git clone https://host/x.git $folder",
        "sudo adduser ubuntu docker",
        "sudo groupadd -f docker",
        "sudo mount -o bind /a /b",
        "sudo mount -t tmpfs tmpfs /scratch",
        "rm -rf ~/y",
        "git clone https://host/y.git ~/y",
        "date >> ~/setup.log",
        "echo made >> /dev/null",
    ]
    assert found(after_setup(*commands), place) == []


def test_the_commands_that_start_ray_may_follow_each_other_once(place: Path) -> None:
    starts = ["mkdir ~/logs", *sound()["head_start_ray_commands"]]
    assert found(changed(head_start_ray_commands=starts), place) == []


@pytest.mark.parametrize(
    "command",
    ["echo 'cd project' >> ~/.bashrc", "echo x | sudo tee -a /etc/hosts", "cat <<EOF >> ~/.profile\nx\nEOF"],
)
def test_a_file_that_grows_at_each_run_is_noted(place: Path, command: str) -> None:
    ((text, is_fault),) = found(after_setup(command), place)
    assert "at each run" in text
    assert not is_fault


def test_a_mount_that_is_there_already(place: Path) -> None:
    ((text, is_fault),) = found(with_initialization(f"{MOUNT} && {WRITABLE.partition('|| ')[2]}"), place)
    assert "test with mountpoint -q" in text
    assert is_fault
