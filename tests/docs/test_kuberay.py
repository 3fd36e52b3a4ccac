"""The recipe for Kubernetes: accepted by KubeRay's own schema, and consistent with its image and with raygrid."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from crd_schema import RAY_JOBS, faults_of, to_json_schema
from jsonschema import Draft202012Validator

from raygrid.io.paths import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
JOB = yaml.safe_load((HOW_TO / "kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
IMAGE = (HOW_TO / "kuberay.Dockerfile").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def groups() -> list[dict[str, Any]]:
    """Return the group of the head and those of the workers."""
    return [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (pod, container) of every container, those that initialise included."""
    for group in groups():
        pod = group["template"]["spec"]
        yield from ((pod, container) for container in [*pod["initContainers"], *pod["containers"]])


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return a copy of the manifest with another value at a place such as `spec.a.0.b`."""
    copy = deepcopy(JOB)  # anchors stay one object, so a change is made wherever the value is used
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner: Any = copy
    for part in path:
        inner = inner[part]
    inner[last] = value
    return copy


def test_kuberay_accepts_the_manifest() -> None:
    assert faults_of(JOB) == []


WORKER = "spec.rayClusterSpec.workerGroupSpecs.0"


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        ("spec.shutdownAfterJobFinish", True, "'shutdownAfterJobFinish' was unexpected"),
        (f"{WORKER}.template.spec.tolerations.0.efect", "NoSchedule", "'efect' was unexpected"),
        (f"{WORKER}.template.spec.containers.0.resource", {}, "'resource' was unexpected"),
        ("spec.rayClusterSpec.authOptions.mode", "tokens", "'tokens' is not one of ['disabled', 'token']"),
        ("spec.rayClusterSpec.autoscalerOptions.idleTimeoutSeconds", "600", "'600' is not of type 'integer'"),
        (f"{WORKER}.rayStartParams.object-store-memory", 4_000_000_000, "4000000000 is not of type 'string'"),
        (f"{WORKER}.maxReplicas", "eight", "'eight' is not of type 'integer'"),
        ("spec.rayClusterSpec.workerGroupSpecs", {}, "{} is not of type 'array'"),
        (f"{WORKER}.template.spec.containers.0.env.0.value", 0, "0 is not of type 'string'"),
        (f"{WORKER}.template.spec.volumes.1.emptyDir.sizeLimit", "ninety", "'ninety' does not match"),
        (f"{WORKER}.template.spec.containers.0.env", [{"name": "A"}, {"name": "A"}], "('A',) appears twice"),
    ],
)
def test_a_typo_or_a_wrong_type_is_refused(place: str, value: Any, fault: str) -> None:
    found = faults_of(changed(place, value))
    assert any(fault in sentence for sentence in found), found


def test_a_field_that_is_required_is_missed() -> None:
    manifest = deepcopy(JOB)
    del manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    assert any("'template' is a required property" in sentence for sentence in faults_of(manifest))


@pytest.mark.parametrize(
    ("schema", "value", "accepted"),
    [
        ({"type": "string", "nullable": True}, None, True),
        ({"type": "string"}, None, False),
        ({"x-kubernetes-int-or-string": True}, "50%", True),
        ({"x-kubernetes-int-or-string": True}, 1.5, False),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"any": 1}, True),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"any": "x"}, True),
        ({"type": "object", "properties": {"properties": {"type": "object"}}}, {"properties": {}}, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"b": "x"}, False),
        ({"type": "object"}, {"b": "x"}, False),
    ],
)
def test_a_schema_of_kubernetes_is_read_as_the_server_reads_it(schema: Any, value: Any, accepted: bool) -> None:
    assert Draft202012Validator(to_json_schema(schema)).is_valid(value) == accepted


def test_the_versions_agree() -> None:
    pinned = re.findall(r"^ray==(\S+)$", CONSTRAINTS, re.MULTILINE)
    assert [CLUSTER["rayVersion"]] == pinned
    version = re.findall(r"version +v(\d+\.\d+)\.\d+ ", (RAY_JOBS.parent / "SOURCE.txt").read_text())[0]
    assert f"KubeRay {version}" in (HOW_TO / "kuberay.yaml").read_text()
    assert f"KubeRay {version}" in (HOW_TO / "cluster-kubernetes.md").read_text()


def test_no_container_may_take_more_than_it_asked_for() -> None:
    named = [container for _, container in containers()]
    for container in [*named, CLUSTER["autoscalerOptions"]]:
        assert container["resources"]["requests"] == container["resources"]["limits"]
    cards = [container for container in named if "nvidia.com/gpu" in container["resources"]["limits"]]
    assert [container["name"] for container in cards] == ["check-node", "ray-worker"]


def test_every_volume_is_declared_and_has_room() -> None:
    for pod, container in containers():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        cache = {entry["name"]: entry["value"] for entry in container["env"]}[CACHE_VARIABLE]
        assert "emptyDir" in mounts[cache]
        assert mounts["/shared"]["persistentVolumeClaim"]["claimName"] == "raygrid"
    for group in groups():
        limit = int(
            next(v for v in group["template"]["spec"]["volumes"] if v["name"] == "dshm")["emptyDir"]["sizeLimit"][:-2]
        )
        assert int(group["rayStartParams"]["object-store-memory"]) < limit * 2**30
        asked = group["template"]["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"]
        room = next(v for v in group["template"]["spec"]["volumes"] if v["name"] == "cache")["emptyDir"]["sizeLimit"]
        assert int(room[:-2]) < int(asked[:-2])


def test_the_cluster_reports_nothing_and_asks_for_a_token() -> None:
    running = [container for _, container in containers() if container["name"].startswith("ray-")]
    for container in [*running, CLUSTER["autoscalerOptions"]]:
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert not any("RAY_AUTH_MODE" in str(container) for container in running)


def test_each_pod_checks_its_node_first() -> None:
    checks = [container for _, container in containers() if container["name"] == "check-node"]
    assert len(checks) == len(groups())
    assert {tuple(check["command"]) for check in checks} == {("raygrid", "check-node", "--writable", "/shared")}


def test_the_operators_own_rules_hold() -> None:
    """Hold the rules of the operator that no schema states (its validation.go): it would fail the job later."""
    assert not [group for group in groups() if group["template"]["spec"].get("restartPolicy", "Never") != "Never"]
    assert JOB["spec"]["ttlSecondsAfterFinished"] == 0 or JOB["spec"]["shutdownAfterJobFinishes"]
    assert len(JOB["metadata"]["name"]) <= 47
    assert "networkPolicy" not in CLUSTER  # behind a feature gate that is off


def test_the_volume_can_be_mounted_by_many_nodes() -> None:
    claim = yaml.safe_load((HOW_TO / "kuberay-volume.yaml").read_text())
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    used = CLUSTER["headGroupSpec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim["metadata"]["name"] == used


def test_the_image_holds_what_the_job_runs() -> None:
    steps = [shlex.split(line)[1:-1] for line in IMAGE.splitlines() if line.startswith("COPY")]
    copied = {source for sources in steps for source in sources}
    assert all((ROOT / source).exists() for source in copied)
    folder = re.findall(r"^WORKDIR (\S+)$", IMAGE, re.MULTILINE)[0]
    script = JOB["spec"]["entrypoint"].split()[1]
    assert script.startswith(f"{folder}/")
    assert Path(script.removeprefix(f"{folder}/")).parts[0] in copied
    assert {"constraints.txt", "pyproject.toml", "README.md", "LICENSE", "raygrid"} <= copied  # setuptools reads them
    user = re.findall(r"--uid (\d+)", IMAGE)[0]
    assert all(group["template"]["spec"]["securityContext"]["runAsUser"] == int(user) for group in groups())


def test_the_image_has_the_python_and_the_extras_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.findall(r"^FROM python:(\S+?)-", IMAGE, re.MULTILINE)[0]
    assert project["requires-python"] == f">={version}"
    extras = re.findall(r"\.\[(.*?)\]", IMAGE)[0].split(",")
    assert set(extras) <= set(project["optional-dependencies"])


@pytest.mark.parametrize(("backend", "free"), [("", False), ("cu126", True)])
def test_the_image_leaves_cudas_packages_to_another_build_of_pytorch(tmp_path: Path, backend: str, free: bool) -> None:
    command = re.findall(r"^RUN (if .*)$", IMAGE, re.MULTILINE)[0].replace("/tmp/pins.txt", str(tmp_path / "pins.txt"))
    subprocess.run(["sh", "-c", command], cwd=ROOT, env={"TORCH_BACKEND": backend, "PATH": "/usr/bin:/bin"}, check=True)
    pins = (tmp_path / "pins.txt").read_text()
    assert (pins == CONSTRAINTS) != free
    assert bool(re.search(r"^(cuda|nvidia)-", pins, re.MULTILINE)) != free
