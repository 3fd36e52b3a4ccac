"""`raygrid status`: what a person sees of a half-done study."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.cli.commands import main
from raygrid.io.files import write_json, write_text
from raygrid.models.training import train
from raygrid.store.folder import StudyFolder
from raygrid.store.units import missing_files
from raygrid.study.clean import find_unused
from raygrid.study.status import describe_status


@pytest.fixture
def zoo(tmp_path: Path) -> StudyFolder:
    zoo = make_zoo(tmp_path / "study", replace(RECIPE, epochs=1))
    write_json(
        tmp_path / "study" / "study.json", {"study": zoo.study.to_dict(), "samples": dict(zoo.sample_signatures)}
    )
    return zoo


def test_a_study_that_has_nothing_yet(zoo: StudyFolder) -> None:
    text = describe_status(zoo)
    assert "models: 0 of 1 trained" in text
    assert "toy: samples not prepared yet" in text


def test_pace_and_failures_are_told(
    zoo: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(zoo.samples_dir("toy"))
    small = StudyFolder(
        zoo.path, replace(zoo.study, transfer=replace(zoo.study.transfer, block_size=4)), zoo.sample_signatures
    )
    write_json(small.path / "study.json", {"study": small.study.to_dict(), "samples": dict(small.sample_signatures)})
    write_text(small.model(MODEL).path / "failure.txt", "the loss is not finite\n")
    assert "FAILED model toy/test_resnet-random-d1-0: the loss is not finite" in describe_status(small)
    train(small, MODEL, samples)
    units = small.units("toy")
    missing = missing_files(units)
    for age, file in zip((40, 20, 0), missing[:3], strict=True):  # clean scores, one each 20 s
        file.describe_tile()
        write_text(file.path, "scores")
        os.utime(file.path, (time.time() - age,) * 2)
    write_text(units[-1].failure_path, "a network gave no number\n\nTraceback: all of it\n")
    outdated = units[0].folder.with_name("plan-000000000000")
    outdated.mkdir()
    text = describe_status(small)
    assert f"no longer used: {outdated}" in text
    assert str(units[0].folder) not in text
    assert "toy: 3 of 12 units scored" in text
    assert "pace: 3 score files a minute over the last 1 minutes, 9 are missing: about 3 minutes" in text
    assert f"FAILED unit toy/{MODEL.name} block 5: a network gave no number" in text
    assert "Traceback" not in text
    assert str(units[-1].failure_path) in text
    with pytest.raises(SystemExit, match="0"):
        main(["status", str(small.path), "--failed"])
    assert "Traceback: all of it" in capsys.readouterr().out
    monkeypatch.setattr(StudyFolder, "untrained", lambda zoo: [MODEL])
    assert "pace:" not in describe_status(small)  # what is left to train takes longer than what is left to score


def test_leftovers_are_listed_and_go_only_when_asked(zoo: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    make_samples(zoo.samples_dir("toy"))
    write_json(zoo.path / "study.json", {"study": zoo.study.to_dict(), "samples": dict(zoo.sample_signatures)})
    kept = zoo.model(MODEL).path / "card.json"
    old = [
        zoo.path / "samples" / "toy-111111111111" / "manifest.json",
        zoo.path / "zoo" / "toy" / "some-model-222222222222" / "card.json",
        zoo.path / "scores" / "modality=toy" / "surrogate=clean" / "plan-333333333333" / "block-00000-x.parquet",
        zoo.path / "zoo" / f".writing-{'4' * 32}-card.json",
    ]
    write_json(kept, {"weights_sha256": "0" * 64})
    own = [zoo.path / name for name in ("samples/my-notes/a", "zoo/toy/mine/a", ".writing-thesis")]
    for path in own:
        write_text(path, "of the user")
    for path in old:
        write_text(path, "x" * 1_000_000)
    for arguments, gone in (([], False), (["--delete"], True), ([], True)):
        with pytest.raises(SystemExit, match="0"):
            main(["clean", str(zoo.path), *arguments])
        assert [path.exists() for path in old] == [not gone] * 4
    listed, deleted, nothing = (text.splitlines()[-1].split() for text in _parts(capsys.readouterr().out))
    assert (listed[0], deleted[0], nothing[0]) == ("4.0", "4.0", "0.0")
    assert kept.exists()
    assert all(path.exists() for path in own)


def test_scores_are_no_leftovers_while_their_models_are_not_trained(zoo: StudyFolder) -> None:
    make_samples(zoo.samples_dir("toy"))
    write_text(zoo.path / "scores/modality=toy/surrogate=clean/plan-333333333333/block-00000-x.parquet", "scores")
    assert find_unused(zoo) == []
    write_json(zoo.model(MODEL).path / "card.json", {"weights_sha256": "0" * 64})
    assert len(find_unused(zoo)) == 1


def _parts(text: str) -> list[str]:
    """What three commands said: each ends with a line of the sum."""
    ends = ("raygrid clean --delete STUDY", "deleted", "nothing to clean")
    parts = []
    for end in ends:
        part, _, text = text.partition(end)
        parts.append(part + end)
    return parts
