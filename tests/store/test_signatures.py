"""Signatures name the folders of finished work: a release that changes one makes every study start again."""

from pathlib import Path

from toy_zoo import MODEL, make_zoo

from raygrid.spec import DatasetSpec, SplitSpec
from raygrid.store.signatures import model_signature, samples_signature, transfer_signature

MODEL_SIGNATURE = "752c1ff22333374978342f0ad4458fba61fc76febcc285b7aab11a9838108e4a"
TRANSFER_SIGNATURE = "b60086ebf8767b073a7399cc9fbd10cbd364d92ca202727967bd380f43f5ae7b"


def test_signatures_keep_their_values(tmp_path: Path) -> None:
    study = make_zoo(tmp_path).study
    assert model_signature(study, MODEL, samples="0" * 64, start="random") == MODEL_SIGNATURE
    assert transfer_signature(study, samples="0" * 64, surrogate="") == TRANSFER_SIGNATURE


def test_a_signature_depends_on_its_inputs(tmp_path: Path) -> None:
    study = make_zoo(tmp_path).study
    models = {model_signature(study, MODEL, samples=s, start=start) for s in "ab" for start in ("random", "other")}
    transfers = {transfer_signature(study, samples=s, surrogate=surrogate) for s in "ab" for surrogate in ("", "m")}
    assert (len(models), len(transfers)) == (4, 4)


def test_a_declaration_of_different_patients_does_not_change_the_samples() -> None:
    plain = {"table": "t.csv", "labels": ["mass"]}
    signatures = {
        samples_signature(DatasetSpec(loader="table", image_size=32, channels=1, options=options), SplitSpec(), 0, "i")
        for options in (plain, {**plain, "different_patients": True}, {**plain, "different_patients": ["12"]})
    }
    assert len(signatures) == 1
