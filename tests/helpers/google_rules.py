"""The rules by which the fake of Google's API refuses a request: its published schemas, and rules for machines.

The schemas are the discovery documents that google-api-python-client carries. They hold every field, its type and its
values; the rules for machines are sentences of the same documents and of Google's pages on machine series.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_MACHINE = re.compile(r"zones/([^/]+)/machineTypes/([a-z][a-z0-9]*)-[a-z]+-([0-9]+)g?$")
_IMAGE = re.compile(r"(?:projects/[a-z][a-z0-9-]*/)?global/images/(?:family/)?[a-z][a-z0-9-]*")
_KEY, _VALUE, _TAG = r"[a-z][a-z0-9_-]{0,62}", r"[a-z0-9_-]{0,63}", r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_WITH_GPU = {"a2", "a3", "g2", "g4"}
_WITHOUT_STANDARD_DISKS = {"a3", "g2", "g4"}
_SSDS_OF_G2 = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "any": (object,),
}


class GoogleError(Exception):
    """A refusal: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Method:
    """A method of an API.

    Attributes:
        identity: such as `compute.instances.insert`.
        path: pattern of its path.
        request: name of the schema of its body; "" if it has none.
    """

    identity: str
    verb: str
    path: re.Pattern[str]
    parameters: Mapping[str, Any]
    request: str


class Discovery:
    """An API as its discovery document declares it.

    Attributes:
        host: of its addresses.
    """

    def __init__(self, name: str) -> None:
        """Read the document of an API, such as `compute.v1`."""
        document = files("googleapiclient.discovery_cache.documents").joinpath(f"{name}.json").read_text()
        self._document = json.loads(document)
        self.host: str = self._document["rootUrl"].split("/")[2]
        self._methods = list(self._walk(self._document))

    def find(self, verb: str, path: str, query: Mapping[str, str]) -> tuple[Method, dict[str, str]]:
        """Return the method for a request, with the values in its path. Raises GoogleError if there is none."""
        for method in self._methods:
            fits = method.path.fullmatch(path) if verb == method.verb else None
            if fits:
                unknown = set(query) - set(method.parameters) - set(self._document["parameters"])
                if unknown:
                    raise GoogleError(400, f"Unknown name {sorted(unknown)} of a query parameter")
                return method, fits.groupdict()
        raise GoogleError(404, f"{self.host} has no method {verb} {path}")

    def check(self, schema: str, value: Any, where: str) -> None:
        """Check a value against a schema. Raises GoogleError if a field is unknown, of another type or value."""
        self._check(self._document["schemas"][schema], value, where)

    def _walk(self, resource: Mapping[str, Any]) -> Iterator[Method]:
        for method in resource.get("methods", {}).values():
            path = method.get("flatPath", method["path"])
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(f"/{self._document['servicePath']}{path}"))
            parameters = method.get("parameters", {})
            request = method.get("request", {}).get("$ref", "")
            yield Method(method["id"], method["httpMethod"], re.compile(pattern), parameters, request)
        for part in resource.get("resources", {}).values():
            yield from self._walk(part)

    def _check(self, schema: Mapping[str, Any], value: Any, where: str) -> None:
        if "$ref" in schema:
            schema = self._document["schemas"][schema["$ref"]]
        kind = schema["type"]
        # an integer of 64 bits is a string in JSON; the servers take a number, too
        kinds = (int, str) if schema.get("format", "").endswith("int64") else _JSON_TYPES[kind]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind not in ("boolean", "any")):
            raise GoogleError(400, f"Invalid value for field '{where}': {value!r}; expected {kind}")
        if value not in schema.get("enum", [value]):
            raise GoogleError(400, f"Invalid value for field '{where}': {value!r}; expected one of {schema['enum']}")
        if isinstance(value, list):
            for number, part in enumerate(value):
                self._check(schema["items"], part, f"{where}[{number}]")
        if isinstance(value, dict):
            known, others = schema.get("properties", {}), schema.get("additionalProperties")
            for name, part in value.items():
                if name not in known and others is None:
                    raise GoogleError(400, f"Unknown name \"{name}\" at '{where}': Cannot find field.")
                self._check(known.get(name, others), part, f"{where}.{name}")


def check_instance(instance: Mapping[str, Any], zone: str) -> None:
    """Check the rules for a machine that no schema holds. Raises GoogleError if Google would refuse it."""
    for problem in _problems(instance, zone):
        raise GoogleError(400, problem)


def check_labels(labels: Mapping[str, str]) -> None:
    """Check labels. Raises GoogleError if there are too many, or a key or value has other characters."""
    if len(labels) > 64:
        raise GoogleError(400, f"Invalid value for field 'labels': {len(labels)} labels; expected at most 64")
    for key, value in labels.items():
        if not re.fullmatch(_KEY, key) or not re.fullmatch(_VALUE, value):
            raise GoogleError(400, f"Invalid value for field 'labels': {key}={value!r}; expected a-z, 0-9, _ and -")


def _problems(instance: Mapping[str, Any], zone: str) -> Iterator[str]:
    if not re.fullmatch(_TAG, instance.get("name", "")):
        yield f"Invalid value for field 'resource.name': {instance.get('name')!r}"
    check_labels(instance.get("labels", {}))
    machine = _MACHINE.search(instance.get("machineType", ""))
    if machine is None:
        yield f"Invalid value for field 'resource.machineType': {instance.get('machineType')!r}"
        return
    if machine[1] != zone:
        yield f"Zone of the machine type, {machine[1]}, is not the zone of the request, {zone}"
    family, cpus = machine[2], int(machine[3])
    if family == "g2" and cpus not in _SSDS_OF_G2:
        yield f"The machine type g2-standard-{cpus} does not exist"
    yield from _disk_problems(instance.get("disks", []), zone, family, cpus)
    scheduling = instance.get("scheduling", {})
    spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible")
    if spot and scheduling.get("automaticRestart"):
        yield "Scheduling must not have automaticRestart for a preemptible machine"
    if not spot and scheduling.get("instanceTerminationAction") and not scheduling.get("maxRunDuration"):
        yield "instanceTerminationAction needs a spot machine or maxRunDuration"
    gpu = family in _WITH_GPU or instance.get("guestAccelerators")
    if (gpu and not spot and scheduling.get("onHostMaintenance") != "TERMINATE") or (
        (gpu or spot) and scheduling.get("onHostMaintenance", "TERMINATE") != "TERMINATE"
    ):
        yield "Instances with GPUs, and preemptible ones, do not support live migration"
    accounts = instance.get("serviceAccounts", [])
    if len(accounts) > 1 or not all(account.get("email") and account.get("scopes") for account in accounts):
        yield "Invalid value for field 'resource.serviceAccounts': expected one, with email and scopes"
    for tag in instance.get("tags", {}).get("items", []):
        if not re.fullmatch(_TAG, tag):
            yield f"Invalid value for field 'resource.tags.items': {tag!r}"


def _disk_problems(disks: list[Mapping[str, Any]], zone: str, family: str, cpus: int) -> Iterator[str]:
    if [disk.get("boot", False) for disk in disks].count(True) != 1 or not disks[0].get("boot"):
        yield "Invalid value for field 'resource.disks': expected one boot disk, in the first place"
    ssds = [disk for disk in disks if disk.get("type") == "SCRATCH"]
    if family == "g2" and len(ssds) not in (0, _SSDS_OF_G2.get(cpus)):
        yield f"g2-standard-{cpus} takes {_SSDS_OF_G2.get(cpus)} local SSDs or none, got {len(ssds)}"
    for number, disk in enumerate(disks):
        where, made = f"resource.disks[{number}]", disk.get("initializeParams", {})
        kind = made.get("diskType", f"zones/{zone}/diskTypes/pd-standard")
        fits = re.search(r"zones/([^/]+)/diskTypes/([a-z-]+)$", kind)
        if fits is None or fits[1] != zone:
            yield f"Invalid value for field '{where}.initializeParams.diskType': {kind!r}"
            continue
        if (disk.get("type") == "SCRATCH") != (fits[2] == "local-ssd"):
            yield f"Invalid value for field '{where}.type': {disk.get('type')!r} with the disk type {fits[2]}"
        if fits[2] == "local-ssd" and not disk.get("autoDelete"):
            yield f"Invalid value for field '{where}.autoDelete': a local SSD must be deleted with its machine"
        if family in _WITHOUT_STANDARD_DISKS and fits[2] == "pd-standard":
            yield f"[pd-standard] features and [instance_type: VIRTUAL_MACHINE, family: {family}] are not compatible"
        if disk.get("boot") and not disk.get("source") and not _IMAGE.search(made.get("sourceImage", "")):
            yield f"Invalid value for field '{where}.initializeParams.sourceImage': {made.get('sourceImage')!r}"
