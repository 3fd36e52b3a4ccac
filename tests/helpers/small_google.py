"""A simulated Google Cloud: a fake answers the API, and every machine that it creates is a box with the same addresses.

A script of `lab.py`: `small_google.py FOLDER CHECKOUT`. The box `laptop` has a copy of the checkout in ~/raygrid and
the credentials of the project's owner. The project is as the guide creates it: a network `raygrid`, whose firewall
admits SSH to machines with the tag `raygrid`; a Filestore in that network, FOLDER/kept/shared, which belongs to root
at first; and two service accounts. FOLDER/project.json is a copy of its state.
"""

import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxes import LAPTOP, METADATA, SERVICE, USER_ID, Bind, Box, Machine, make_network, offline_python, output_of
from fake_google import FakeGoogle, Project
from google_servers import serve_api, serve_metadata
from private_ca import server_context

PROJECT, REGION, ZONE = "raygrid-test", "europe-west4", "europe-west4-a"
NETWORK = TAG = "raygrid"
_AUTHORITY = "/etc/fake-google"
_NOT_COPIED = ("/.git", "/.venv", "/build", "/studies", "/data", "__pycache__", ".*_cache", ".hypothesis")
_PROFILE = 'PATH="$HOME/.uv/bin:$PATH"\n[ ! -d ~/raygrid/.venv ] || . ~/raygrid/.venv/bin/activate\n'
_CREDENTIALS = {  # as `gcloud auth application-default login` writes them
    "type": "authorized_user",
    "client_id": "client.apps.googleusercontent.com",
    "client_secret": "secret",
    "refresh_token": "refresh",
    "quota_project_id": PROJECT,
}


def account(name: str) -> str:
    """Return the address of a service account of the project."""
    return f"{name}@{PROJECT}.iam.gserviceaccount.com"


def new_project() -> Project:
    """Return a project with the parts that the guide makes, beside the network that every project has."""
    head = f"serviceAccount:{account('raygrid-head')}"
    return Project(
        name=PROJECT,
        region=REGION,
        zone=ZONE,
        accounts={account("raygrid-head"), account("raygrid-worker")},
        bindings={"roles/owner": ["user:owner@example.com"], "roles/compute.instanceAdmin.v1": [head]},
        act_as={account("raygrid-worker"): [head]},
        subnetworks=["default", NETWORK],
    )


class SmallGoogle:
    """The boxes of the machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boxes: dict[str, Box] = {}
        self.fake = FakeGoogle(new_project(), self._start, self._end)
        self.environment, self.binds = offline_python(folder)
        authority = folder / "authority"
        authority.mkdir()
        context = server_context(authority, self.fake.hosts)
        (authority / "server.pem").chmod(0o600)
        self.hosts = {**dict.fromkeys(self.fake.hosts, SERVICE), "metadata.google.internal": METADATA}
        self.environment["HTTPLIB2_CA_CERTS"] = f"{_AUTHORITY}/ca.pem"
        self.binds.append(Bind(authority, _AUTHORITY))
        self._shared = folder / "kept" / "shared"
        self._shared.mkdir(parents=True)
        self._shared.chmod(0o755)
        serve_api(self.fake, (SERVICE, 443), context)
        serve_metadata(self.fake, (METADATA, 80))

    def _start(self, instance: dict[str, Any]) -> None:
        number = len(self._boxes) + 1
        interface = instance["networkInterfaces"][0]
        interface["networkIP"] = f"172.31.0.{10 + number}"
        for access in interface.get("accessConfigs", []):
            access["natIP"] = f"203.0.113.{10 + number}"
        inside = interface["subnetwork"].endswith(f"/{NETWORK}")
        admitted = inside and TAG in instance.get("tags", {}).get("items", [])
        public = next((access["natIP"] for access in interface.get("accessConfigs", [])), "")
        machine = Machine(
            name=instance["name"],
            private=interface["networkIP"],
            public=public if admitted else "",
            authorized_key=authorized_keys(self.fake.project.metadata, instance, "ubuntu"),
            environment=self.environment,
            hosts=self.hosts,
            binds=[*self.binds, Bind(self._shared, "/shared", "rw")] if inside else self.binds,
        )
        self._boxes[instance["name"]] = Box(self._folder, machine)
        print(f"started {instance['name']} {instance['machineType']} {machine.private}", flush=True)

    def _end(self, name: str) -> None:
        self._boxes[name].end()
        print(f"ended {name}", flush=True)


def authorized_keys(common: Sequence[dict[str, str]], instance: dict[str, Any], user: str) -> str:
    """Return the SSH keys that Google's agent gives a user: those in the metadata, unless OS Login is on."""
    own = {item["key"]: item["value"] for item in instance.get("metadata", {}).get("items", [])}
    both = {**{item["key"]: item["value"] for item in common}, **own}
    if both.get("enable-oslogin", "").lower() == "true":
        return ""
    sources = [own] if both.get("block-project-ssh-keys", "").lower() == "true" else [own, *_as_dicts(common)]
    lines = [line for source in sources for line in source.get("ssh-keys", "").splitlines()]
    return "\n".join(line.partition(":")[2] for line in lines if line.startswith(f"{user}:"))


def _as_dicts(items: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [{item["key"]: item["value"]} for item in items]


def start_laptop(google: SmallGoogle, folder: Path, checkout: Path) -> Box:
    """Start the box from which `ray up` is called; its environment is still to be made."""
    home = folder / "laptop-home"
    credentials = home / ".config" / "gcloud" / "application_default_credentials.json"
    credentials.parent.mkdir(parents=True)
    credentials.write_text(json.dumps(_CREDENTIALS))
    output_of("rsync", "-a", *[f"--exclude={name}" for name in _NOT_COPIED], f"{checkout}/", home / "raygrid")
    (home / ".profile").write_text(_PROFILE)
    output_of("chown", "-R", f"{USER_ID}:{USER_ID}", home)
    environment = {**google.environment, "OMP_NUM_THREADS": "1"}
    machine = Machine("laptop", LAPTOP, environment=environment, hosts=google.hosts, binds=google.binds, home=home)
    return Box(folder, machine)


def main(folder: Path, checkout: Path) -> None:
    """Run until this process is ended."""
    make_network()
    google = SmallGoogle(folder)
    start_laptop(google, folder, checkout)
    threading.Thread(target=_record, args=(google.fake, folder / "project.json"), daemon=True).start()
    print("ready", flush=True)
    signal.pause()


def _record(fake: FakeGoogle, path: Path) -> None:
    """Keep a copy of the project's state in a file, for the outside."""
    written = ""
    while True:
        state = json.dumps({"instances": fake.project.instances, "calls": fake.calls, **_policy(fake)})
        if state != written:
            path.with_suffix(".new").write_text(state)
            path.with_suffix(".new").replace(path)
            written = state
        threading.Event().wait(0.2)


def _policy(fake: FakeGoogle) -> dict[str, Any]:
    return {"bindings": fake.project.bindings, "accounts": sorted(fake.project.accounts)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
