"""A simulated AWS: moto answers the API, and every instance that it creates becomes a box with the same addresses.

A script of `lab.py`: `small_aws.py FOLDER CHECKOUT`. The box `laptop` has a copy of the checkout in ~/raygrid, uv with
its cache, and credentials. Instances get theirs from the metadata service, and see the folder FOLDER/kept/shared as
/shared, which belongs to root, as a new EFS does. On the first worker, /shared is read-only, so that its set-up fails.
`aws_lab.py` controls it from outside.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import metadata_service
from aws_api import BUCKET, ENDPOINT, KEYS, REGION, client, instances, is_up
from boxes import LAPTOP, METADATA, SERVICE, USER_ID, Bind, Box, Machine, make_network, offline_python, output_of

PROFILES = ("raygrid-head", "raygrid-worker")
_CANONICAL = "099720109477"  # the account that publishes Ubuntu's images
_POLL_S = 0.3
# Holds the lock of the first machine's dpkg as unattended upgrades do on a first boot
_HOLD_DPKG = """\
import fcntl, time
lock = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(15)"""
_READ_ONLY = "mount -o remount,bind,ro /shared"
_NOT_COPIED = ("/.git", "/.venv", "/build", "/studies", "/data", "__pycache__", ".*_cache", ".hypothesis")


def main(folder: Path, checkout: Path) -> None:
    """Run until this process is ended."""
    make_network()
    metadata_service.serve(METADATA)
    moto = _moto(folder / "moto.log")
    ec2 = client("ec2")
    (folder / "facts.json").write_text(json.dumps(_resources(ec2)))
    nodes = _Nodes(folder, _laptop(folder, checkout))
    print("ready", flush=True)
    while moto.poll() is None:
        time.sleep(_POLL_S)
        nodes.follow(instances(ec2))


def _moto(log: Path) -> "subprocess.Popen[bytes]":
    """Start moto's server on port 80, and wait for it."""
    command = [str(Path(sys.prefix) / "bin" / "moto_server"), "-H", SERVICE, "-p", "80"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{ENDPOINT}/moto-api/data.json", timeout=5).close()
            return process
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"moto did not start: {log.read_text()}")


def _resources(ec2: Any) -> dict[str, str]:
    """Make the parts that the user of `cluster.yaml` makes; return what its placeholders stand for."""
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="raygrid", Description="raygrid", VpcId=network)["GroupId"]
    iam = client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for profile in PROFILES:
        iam.create_role(RoleName=profile, AssumeRolePolicyDocument=trust)
        iam.create_instance_profile(InstanceProfileName=profile)
        iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=profile)
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    disk = client("efs").create_file_system(CreationToken="raygrid")["FileSystemId"]
    image = ec2.describe_images(Owners=[_CANONICAL])["Images"][0]["ImageId"]
    return {"ami-REPLACE": image, "sg-REPLACE": group, "fs-REPLACE": disk}


def _laptop(folder: Path, checkout: Path) -> Box:
    environment, binds = offline_python(folder)
    home = folder / "laptop-home"
    home.mkdir()
    excluded = [f"--exclude={name}" for name in _NOT_COPIED]
    output_of("rsync", "-a", *excluded, f"{checkout}/", home / "raygrid")
    (home / ".local" / "bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix) / "bin" / "uv", home / ".local" / "bin")
    activate = "raygrid/.venv/bin/activate"
    (home / ".profile").write_text(f"PATH=~/.local/bin:$PATH\n[ ! -e ~/{activate} ] || . ~/{activate}\n")
    output_of("chown", "-R", f"{USER_ID}:{USER_ID}", home)
    variables = {
        **environment,
        **KEYS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": ENDPOINT,
    }
    return Box(folder, Machine("laptop", LAPTOP, environment=variables, binds=binds, home=home))


class _Nodes:
    """The boxes of the instances."""

    def __init__(self, folder: Path, laptop: Box) -> None:
        self._folder, self._laptop = folder, laptop
        self._boxes: dict[str, Box] = {}
        self._kinds: set[str] = set()  # of the machines so far
        self._environment, self._binds = offline_python(folder)
        self._environment["AWS_ENDPOINT_URL"] = ENDPOINT
        # clients ask the metadata service once and wait one second, too little for a busy machine
        self._environment |= {"AWS_METADATA_SERVICE_TIMEOUT": "10", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "5"}
        shared = folder / "kept" / "shared"
        shared.mkdir(parents=True)
        shared.chmod(0o755)
        self._binds.append(Bind(shared, "/shared", "rw"))

    def follow(self, found: list[dict[str, Any]]) -> None:
        """Start the boxes of new instances, and end those of terminated ones."""
        for instance in found:
            name = instance["InstanceId"]
            if is_up(instance) and name not in self._boxes:
                self._boxes[name] = self._start(instance)
                print(f"{time.strftime('%X')} started {name} ({instance['PrivateIpAddress']})", flush=True)
            elif not is_up(instance) and name in self._boxes and self._boxes[name].is_running():
                self._boxes[name].end()
                print(f"{time.strftime('%X')} ended {name}", flush=True)

    def _start(self, instance: dict[str, Any]) -> Box:
        keys = sorted(self._laptop.home.glob(".ssh/*.pem"))  # which Ray made, and gave to the API
        kind = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}.get("ray-node-type", "")
        trouble = {"head": f'exec /usr/bin/python3 -c "{_HOLD_DPKG}"', "worker": _READ_ONLY}
        at_boot = "" if kind in self._kinds else trouble.get(kind, "")
        self._kinds.add(kind)
        machine = Machine(
            name=instance["InstanceId"],
            private=instance["PrivateIpAddress"],
            public=instance.get("PublicIpAddress", ""),
            authorized_key=output_of("ssh-keygen", "-y", "-f", keys[0]) if keys else "",
            environment=self._environment,
            binds=self._binds,
            at_boot=at_boot,
        )
        return Box(self._folder, machine)


if __name__ == "__main__":
    shutil.rmtree(Path(sys.argv[1]) / "kept", ignore_errors=True)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
