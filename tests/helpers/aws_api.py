"""The API of the simulated AWS (`small_aws.py`), called from inside its lab.

As a program: `aws_api.py instances` (those that run, with their kinds), `terminate ID`, `objects`, `get KEY PATH`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import boto3
from boxes import SERVICE

REGION = "eu-central-1"
ENDPOINT = f"http://{SERVICE}"
BUCKET = "raygrid-studies"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def client(service: str) -> Any:
    """Return boto3's client of a service."""
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name=REGION,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def instances(ec2: Any) -> list[dict[str, Any]]:
    """Return what the API tells of all instances, terminated ones included."""
    pages = ec2.get_paginator("describe_instances").paginate()
    return [instance for page in pages for group in page["Reservations"] for instance in group["Instances"]]


def is_up(instance: dict[str, Any]) -> bool:
    """Whether an instance is pending or running."""
    return instance["State"]["Name"] in ("pending", "running")


def main(command: str, *arguments: str) -> None:
    """Run one command of the module's description."""
    if command == "instances":
        nodes = [node for node in instances(client("ec2")) if is_up(node)]
        kinds = [{tag["Key"]: tag["Value"] for tag in node.get("Tags", [])} for node in nodes]
        names = [node["InstanceId"] for node in nodes]
        print(json.dumps({name: tags.get("ray-node-type", "") for name, tags in zip(names, kinds, strict=True)}))
    elif command == "terminate":
        client("ec2").terminate_instances(InstanceIds=list(arguments))
    elif command == "objects":
        pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        print(json.dumps([found["Key"] for page in pages for found in page.get("Contents", [])]))
    elif command == "get":
        key, path = arguments
        Path(path).write_bytes(client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
    else:
        raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])
