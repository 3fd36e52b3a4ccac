"""Checks of a Kubernetes manifest by the schema of its resource, as an API server with strict validation makes them."""

import lzma
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

RAY_JOBS = Path(__file__).parent / "kuberay" / "ray.io_rayjobs.yaml.xz"


@cache
def schema_of(version: str, path: Path = RAY_JOBS) -> dict[str, Any]:
    """Return the schema of one version of a resource, as JSON Schema that refuses unknown fields."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the file has 25,000 lines
    resource = yaml.load(lzma.decompress(path.read_bytes()), Loader=loader)
    (found,) = [v["schema"]["openAPIV3Schema"] for v in resource["spec"]["versions"] if v["name"] == version]
    strict = to_json_schema(found)
    strict["properties"]["metadata"] = {"type": "object"}  # the API server checks it by a schema of its own
    return strict


def to_json_schema(schema: Any) -> Any:
    """Return a structural schema of Kubernetes as JSON Schema.

    A field without a schema is refused, unless the schema preserves unknown fields. `nullable` admits null, and an
    int-or-string admits both.
    """
    if isinstance(schema, list):
        return [to_json_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {key: to_json_schema(part) for key, part in schema.items() if key not in ("properties", "default")}
    if "properties" in schema:  # their names may be keywords
        converted["properties"] = {name: to_json_schema(part) for name, part in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        converted["type"] = ["integer", "string"]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and not is_open:
        converted["additionalProperties"] = False
    if schema.get("nullable"):
        converted["type"] = [converted["type"], "null"]
    return converted


def faults_of(manifest: dict[str, Any]) -> list[str]:
    """Return the faults of a RayJob, one sentence each; none if the API server would accept it."""
    schema = schema_of(str(manifest["apiVersion"]).partition("/")[2])
    errors = sorted(Draft202012Validator(schema).iter_errors(manifest), key=lambda error: error.json_path)
    return [*(f"{error.json_path}: {error.message}" for error in errors), *_duplicates(manifest, schema, "$")]


def _duplicates(value: Any, schema: Any, place: str) -> Iterator[str]:
    """Yield the entries of a list that have the same key, where the schema calls the list a map."""
    if isinstance(value, dict):
        for name, part in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
            yield from _duplicates(part, inner if isinstance(inner, dict) else {}, f"{place}.{name}")
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        names = [tuple(entry.get(key) for key in keys) for entry in value] if keys else []
        yield from (f"{place}: {name} appears twice" for name in dict.fromkeys(names) if names.count(name) > 1)
        for k, part in enumerate(value):
            yield from _duplicates(part, schema.get("items", {}), f"{place}[{k}]")
