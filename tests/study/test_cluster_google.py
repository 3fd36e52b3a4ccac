"""The machines of docs/how-to/cluster-gcp.yaml, as Ray asks Google for them, pass the rules of Google's API."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fake_google import FakeGoogle
from google_lab import CLUSTER, filled_in
from google_rules import GoogleError
from small_google import PROJECT, REGION, ZONE, account, authorized_keys, new_project

HEAD, WORKER = "head", "gpu_spot"
HOST, INSTANCES = "compute.googleapis.com", f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
OWNER = "user:owner@example.com"
CONFIG = yaml.safe_load(filled_in(CLUSTER.read_text()))
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def fake() -> FakeGoogle:
    return FakeGoogle(new_project(), lambda instance: None, lambda name: None)


def machine(kind: str) -> dict[str, Any]:
    """Return the request for a machine of a kind, with the additions of Ray's provider (ray/.../gcp/node.py)."""
    body: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG["available_node_types"][kind]["node_config"]))
    body["machineType"] = f"zones/{CONFIG['provider']['availability_zone']}/machineTypes/{body['machineType']}"
    labels = {"ray-cluster-name": CONFIG["cluster_name"], "ray-user-node-type": kind, "ray-node-type": "worker"}
    return body | {"name": f"ray-{CONFIG['cluster_name']}-worker-0a1b2c3d-compute", "labels": labels}


def insert(fake: FakeGoogle, body: dict[str, Any], member: str = OWNER, zone: str = ZONE) -> dict[str, Any]:
    token = fake.token(member, SCOPES)["access_token"]
    return fake.answer(HOST, "POST", INSTANCES.replace(ZONE, zone), {"alt": "json"}, token, body)


def test_the_file_names_the_places_of_the_project() -> None:
    assert (CONFIG["provider"]["region"], CONFIG["provider"]["availability_zone"]) == (REGION, ZONE)


@pytest.mark.parametrize("kind", [HEAD, WORKER])
def test_the_machines_are_accepted(fake: FakeGoogle, kind: str) -> None:
    insert(fake, machine(kind))
    assert list(fake.project.instances) == ["ray-raygrid-worker-0a1b2c3d-compute"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.update(machinetype="n2-standard-8"), 'Unknown name "machinetype"'),
        (lambda body: body.update(scheduling=[body["scheduling"]]), r"'resource.scheduling': .* expected object"),
        (lambda body: body["scheduling"].update(provisioningModel="CHEAP"), "expected one of"),
        (lambda body: body["scheduling"].update(onHostMaintenance="MIGRATE"), "live migration"),
        (lambda body: body["scheduling"].update(automaticRestart=True), "automaticRestart"),
        (lambda body: body.update(scheduling={}), "live migration"),
        (lambda body: body["disks"][0].update(boot=False), "one boot disk"),
        (lambda body: body["disks"][0]["initializeParams"].pop("sourceImage"), "sourceImage"),
        (lambda body: body["disks"][0]["initializeParams"].update(sourceImage="projects/some"), "sourceImage"),
        (lambda body: body["disks"][0]["initializeParams"].update(diskType="pd-balanced"), "diskType"),
        (lambda body: body["labels"].update(Owner="me"), "labels"),
        (lambda body: body["tags"].update(items=["Ray_Grid"]), "tags"),
        (lambda body: body["serviceAccounts"][0].update(email=account("nobody")), "does not exist"),
        (lambda body: body["serviceAccounts"][0].pop("scopes"), "email and scopes"),
        (lambda body: body["networkInterfaces"][0].update(subnetwork="regions/x/subnetworks/raygrid"), "subnetwork"),
        (lambda body: body.update(machineType="zones/other/machineTypes/a2-ultragpu-1g"), "zone of the request"),
    ],
)
def test_a_wrong_machine_is_refused(fake: FakeGoogle, change: Change, message: str) -> None:
    body = machine(WORKER)
    change(body)
    with pytest.raises(GoogleError, match=message):
        insert(fake, body)
    assert not fake.project.instances


@pytest.mark.parametrize("machine_type", ["g2-standard-16", "a3-highgpu-1g"])
def test_newer_machines_refuse_the_disk_that_google_takes_by_default(fake: FakeGoogle, machine_type: str) -> None:
    body = machine(WORKER) | {"machineType": f"zones/{ZONE}/machineTypes/{machine_type}"}
    insert(fake, body | {"name": "balanced"})
    del body["disks"][0]["initializeParams"]["diskType"]
    with pytest.raises(GoogleError, match="pd-standard"):
        insert(fake, body)


def test_another_zone_is_refused(fake: FakeGoogle) -> None:
    with pytest.raises(GoogleError, match="europe-west4-b"):
        insert(fake, machine(WORKER), zone="europe-west4-b")


def test_the_head_may_start_workers_and_a_worker_may_not(fake: FakeGoogle) -> None:
    head, worker = (f"serviceAccount:{account(name)}" for name in ("raygrid-head", "raygrid-worker"))
    with pytest.raises(GoogleError, match="permission"):
        insert(fake, machine(WORKER), worker)
    insert(fake, machine(WORKER), head)
    with pytest.raises(GoogleError, match="access to service account"):
        insert(fake, machine(HEAD) | {"name": "another-head"}, head)


def test_a_worker_that_google_takes_back_leaves_nothing(fake: FakeGoogle) -> None:
    insert(fake, machine(WORKER))
    fake.preempt("ray-raygrid-worker-0a1b2c3d-compute")
    assert not fake.project.instances
    stopped = machine(WORKER)
    del stopped["scheduling"]["instanceTerminationAction"]
    insert(fake, stopped)
    fake.preempt(stopped["name"])
    assert fake.project.instances[stopped["name"]]["status"] == "TERMINATED"  # its disk costs money


def test_keys_of_the_project_open_a_machine_unless_os_login_is_on() -> None:
    common = [{"key": "ssh-keys", "value": "ubuntu:ssh-rsa AAAA ubuntu\nother:ssh-rsa BBBB other"}]
    os_login = {"key": "enable-oslogin", "value": "TRUE"}
    assert authorized_keys(common, {}, "ubuntu") == "ssh-rsa AAAA ubuntu"
    assert authorized_keys([*common, os_login], {}, "ubuntu") == ""
    own = {"metadata": {"items": [{"key": "enable-oslogin", "value": "FALSE"}]}}
    assert authorized_keys([*common, os_login], own, "ubuntu") == "ssh-rsa AAAA ubuntu"
