"""The tables of node types agree with the data of AWS, with raygrid's estimate of memory and with the cluster files."""

import re
import runpy
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from raygrid.models.memory import crafting_bytes, training_bytes
from raygrid.spec import ModalitySpec

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
STUDY = runpy.run_path(str(HOW_TO.parents[1] / "experiments" / "full_grid.py"))["paper"]()
FUNDUS = STUDY.modality("ophthalmology")


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of the table of node types."""
    section = (HOW_TO / page).read_text().split("# Node types\n")[1]
    return [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in section.splitlines()
        if row.startswith(("| `", "| **"))
    ]


def needed_by(modality: ModalitySpec, arch: str, num_outputs: int = 1) -> tuple[int, int]:
    """Return the bytes of a GPU for a training and for the attacks on a block."""
    size = STUDY.transfer.block_size
    training = training_bytes(arch, modality.dataset, modality.recipe, num_outputs=num_outputs)
    return training, crafting_bytes(arch, modality.dataset, num_images=size, num_outputs=num_outputs)


@pytest.fixture(scope="module")
def needed() -> dict[str, tuple[int, int]]:
    """Return what the networks of the paper need for its fundus photographs."""
    return {arch: needed_by(FUNDUS, arch) for arch in ("densenet121", "inception_v3")}


def study_cells(num_bytes: float, needed: dict[str, tuple[int, int]]) -> list[str]:
    """Return the cells of a card with so many bytes."""
    shared = [int(num_bytes // training) for training, _ in needed.values()]
    fits = all(crafting <= num_bytes for _, crafting in needed.values())
    return [f"{shared[0]} and {shared[1]}", "yes" if fits else "no"]


@mock_aws
def test_the_types_of_aws_are_described_as_aws_does(
    needed: dict[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    rows = rows_of("cluster.md")
    client = boto3.client("ec2", region_name="eu-central-1")
    for name, card, shared, attacks, cpus, memory, nvme, network in rows:
        (found,) = client.describe_instance_types(InstanceTypes=[name.strip("*`")])["InstanceTypes"]
        (gpu,) = found["GpuInfo"]["Gpus"]
        num_bytes = gpu["MemoryInfo"]["SizeInMiB"] * 2**20
        marketed = round(num_bytes / (10**9 if gpu["Name"] in ("A10G", "L40S") else 2**30))
        assert card == f"{gpu['Name'].replace('Server ', '')}, {marketed} GB"
        assert [shared, attacks] == study_cells(num_bytes, needed)
        assert int(cpus) == found["VCpuInfo"]["DefaultVCpus"]
        assert int(memory) * 1024 == found["MemoryInfo"]["SizeInMiB"]
        assert int(nvme) == found["InstanceStorageInfo"]["TotalSizeInGB"]
        assert f"{network[0].upper()}{network[1:]} Gigabit" == found["NetworkInfo"]["NetworkPerformance"]
    assert len(rows) == 4


def test_the_types_of_google_fit_their_cards(needed: dict[str, tuple[int, int]]) -> None:
    rows = rows_of("cluster-google.md")
    for _, card, shared, attacks, *_ in rows:
        num_bytes = int(re.findall(r"(\d+) GB", card)[0]) * 2**30
        assert [shared, attacks] == study_cells(num_bytes, needed)
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("file", "page", "key"),
    [("../../cluster.yaml", "cluster.md", "InstanceType"), ("cluster-gcp.yaml", "cluster-google.md", "machineType")],
)
def test_the_type_in_the_file_is_the_one_in_bold_and_can_run_the_study(file: str, page: str, key: str) -> None:
    worker = yaml.safe_load((HOW_TO / file).read_text())["available_node_types"]["gpu_spot"]
    (bold,) = [row for row in rows_of(page) if row[0].startswith("**")]
    assert bold[0] == f"**`{worker['node_config'][key]}`**"
    assert bold[3] == "yes"
    assert not bold[2].startswith("0")
    assert worker["resources"] in ({}, {"CPU": int(bold[4]), "GPU": 1})


def test_the_text_has_the_numbers_of_the_code(needed: dict[str, tuple[int, int]]) -> None:
    text = " ".join((HOW_TO / "cluster.md").read_text().split())
    assert f"need an estimated {needed['densenet121'][1] / 1e9:.1f} GB of the 48 GB of an L40S" in text
    smaller = [needed_by(STUDY.modality(m), a, n) for m, n in (("radiology", 14), ("pathology", 1)) for a in needed]
    assert max(max(pair) for pair in smaller) < 24e9  # a card with 24 GB runs the other two modalities


def test_a_smaller_a100_attacks_all_but_the_fundus_photographs(needed: dict[str, tuple[int, int]]) -> None:
    smaller = [needed_by(STUDY.modality(m), a, n) for m, n in (("radiology", 14), ("pathology", 1)) for a in needed]
    assert max(max(pair) for pair in smaller) < 40 * 2**30 < needed["densenet121"][1]
