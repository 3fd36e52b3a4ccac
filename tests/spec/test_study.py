"""Studies: unknown names get near misses; signatures depend on everything that changes a result, and nothing else."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from raygrid.errors import SpecError
from raygrid.spec import AttackSpec, EnsembleSpec, ModelSpec, Recipe, StudySpec
from raygrid.store.signatures import model_signature, transfer_signature

_FILE = Path(__file__).resolve().parents[2] / "experiments" / "full_grid.py"
_SPEC = importlib.util.spec_from_file_location("full_grid", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
full_grid = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(full_grid)


@pytest.mark.parametrize("build", [full_grid.paper, full_grid.demo], ids=["paper", "demo"])
def test_study_has_the_published_shape(build) -> None:
    study: StudySpec = build()
    assert [m.name for m in study.studied] == ["ophthalmology", "radiology", "pathology"]
    for modality in study.studied:
        assert len(study.models_of(modality.name)) == 12
        assert len(study.pairings(modality.name)) == 144
    assert len(study.transfer.attacks) == 6


@pytest.mark.parametrize("build", [full_grid.paper, full_grid.demo], ids=["paper", "demo"])
def test_study_survives_json(build) -> None:
    study = build()
    assert StudySpec.from_dict(json.loads(json.dumps(study.to_dict()))) == study


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: ModelSpec(modality="x", arch="a", init="imagnet", split="d1"), "imagenet"),
        (lambda: ModelSpec(modality="x", arch="a", init="random", split="d2half"), "d2_half"),
        (lambda: AttackSpec(name="pdg", epsilon=0.1, alpha=0.1, steps=1), "pgd"),
        (lambda: Recipe(epochs=1, augmentations=("color",)), "colour"),
    ],
)
def test_a_mistyped_name_gets_a_near_miss(make, hint: str) -> None:
    with pytest.raises(SpecError, match=f"did you mean.*{hint}"):
        make()


def test_an_ensemble_must_consist_of_models_of_the_study() -> None:
    study = full_grid.demo()
    first, second = (m.name for m in study.models_of("radiology")[:2])

    def with_ensembles(*ensembles: EnsembleSpec) -> StudySpec:
        return dataclasses.replace(study, ensembles=ensembles)

    pair = EnsembleSpec(modality="radiology", label="pair", members=(first, second))
    assert with_ensembles(pair).surrogates_of("radiology") == (*study.models_of("radiology"), pair)
    assert len(with_ensembles(pair).pairings("radiology")) == 13 * 12
    assert "ensembles" not in study.to_dict()
    assert StudySpec.from_dict(json.loads(json.dumps(with_ensembles(pair).to_dict()))) == with_ensembles(pair)
    with pytest.raises(SpecError, match=f"did you mean.*{first}"):
        with_ensembles(dataclasses.replace(pair, members=(first[:-1], second)))
    with pytest.raises(SpecError, match="share a label"):
        with_ensembles(pair, pair)
    with pytest.raises(SpecError, match="modality 'textures'"):
        with_ensembles(dataclasses.replace(pair, modality="textures"))
    with pytest.raises(SpecError, match="two or more"):
        dataclasses.replace(pair, members=(first, first))


def test_unknown_field_gets_a_near_miss() -> None:
    values = full_grid.demo().to_dict()
    values["models"][0]["instanse"] = 1
    with pytest.raises(SpecError, match="instance"):
        StudySpec.from_dict(values)


def test_pretraining_needs_a_source_model() -> None:
    study = full_grid.demo()
    with pytest.raises(SpecError, match="does not train"):
        dataclasses.replace(study, models=tuple(m for m in study.models if m.modality != "textures"))


def test_model_signature_depends_on_recipe_and_data() -> None:
    study = full_grid.demo()
    model = study.models_of("radiology")[0]
    before = model_signature(study, model, samples="s", start="random")
    changed = dataclasses.replace(
        study, modalities=tuple(dataclasses.replace(m, recipe=Recipe(epochs=3)) for m in study.modalities)
    )
    assert model_signature(changed, model, samples="s", start="random") != before
    assert model_signature(study, model, samples="t", start="random") != before
    renamed = dataclasses.replace(study, name="other")
    assert model_signature(renamed, model, samples="s", start="random") == before


def test_transfer_signature_depends_on_the_plan_but_not_on_attacks_or_targets() -> None:
    study = full_grid.demo()
    before = transfer_signature(study, samples="s", surrogate="a")

    def changed(**fields: object) -> str:
        other = dataclasses.replace(study, transfer=dataclasses.replace(study.transfer, **fields))
        return transfer_signature(other, samples="s", surrogate="a")

    for fields in ({"block_size": 7}, {"threads": 3}, {"scoring": "bfloat16"}, {"shuffle": "spatial"}):
        assert changed(**fields) != before
    assert changed(attacks=study.transfer.attacks[:1]) == before
    assert transfer_signature(study, samples="s", surrogate="b") != before
