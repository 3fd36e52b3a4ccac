"""Attacks: budgets that the steps cannot reach and values of wrong types are refused in words; names for readers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raygrid.data.images.scale import GREY_LEVELS_PER_UNIT
from raygrid.errors import SpecError
from raygrid.hashing import digest
from raygrid.spec import ATTACKS, AttackSpec, EnsembleSpec, TransferSpec, attack, attack_grid, displayed
from raygrid.spec.serialization import from_plain, to_plain
from raygrid.store.folder import open_study


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: attack("pgd", 0.3), "20 steps of alpha 0.01 cannot reach epsilon 0.3, only 0.2; .* 0.015, .* 30"),
        (lambda: attack("pgd", 0.06, steps=3), "3 steps of alpha 0.01 .* 0.06, only 0.03; .* 0.02, .* 6"),
        (lambda: attack("pgd", 0.06, alpha=0.001), "only 0.02"),
        (lambda: attack("pgd", 0.06, alpha=0.001, random_start=True), "only 0.02"),
        (lambda: attack("pgd", 3.3, norm="l2", alpha=0.1), "only 2"),
        (lambda: attack("mi_fgsm", 0.04, alpha=0.001), "10 steps of alpha 0.001"),
        (lambda: AttackSpec(name="pgd", epsilon=0.02, alpha=0.01, steps=1), "1 step of alpha 0.01"),
        (lambda: replace(attack("pgd", 0.02), steps=1), "1 step of alpha 0.01"),
        (lambda: attack_grid((0.02, 0.3)), "cannot reach epsilon 0.3"),
        (lambda: attack_grid((0.02,), alpha=0.001, steps=10), "cannot reach epsilon 0.02"),
        (lambda: from_plain(AttackSpec, {**to_plain(attack("pgd", 0.02)), "epsilon": 0.5}), "cannot reach epsilon 0.5"),
    ],
)
def test_a_budget_that_the_steps_cannot_reach_is_refused(declare: Any, message: str) -> None:
    with pytest.raises(SpecError, match=f"attack 'pgd'.*{message}|attack 'mi_fgsm'.*{message}"):
        declare()


def test_a_budget_that_the_steps_just_reach_is_accepted() -> None:
    assert attack("pgd", 0.2).steps * 0.01 == pytest.approx(0.2)
    assert attack("pgd", 0.03, steps=3).alpha == 0.01  # 3 x 0.01 is 0.03 but for rounding
    for steps in range(1, 50):  # the default alpha is epsilon / steps, which rounds up or down
        for epsilon in (0.01, 0.02, 0.07, 1 / 3):
            assert attack("mi_fgsm", epsilon, steps=steps).steps == steps
    assert [a.epsilon for a in attack_grid((0.02, 0.04, 0.06))] == [0.02, 0.04, 0.06, 0.02, 0.04, 0.06]
    assert [a.alpha for a in attack_grid((0.5,), alpha=0.1, steps=5)] == [0.5, 0.1]


def test_l2_needs_an_alpha_of_its_own() -> None:
    for epsilon in (0.1, 1.0, 3.3):  # 0.1 could be reached by 20 steps of 0.01, which no one chose
        with pytest.raises(SpecError, match=r"attack 'pgd-l2': .*0\.01, is a step for L-infinity; give an alpha"):
            attack("pgd", epsilon, suffix="l2", norm="l2")
    assert attack("pgd", 1.0, norm="l2", alpha=0.1).alpha == 0.1
    for name in ATTACKS:
        if name != "pgd":  # alpha is epsilon / steps
            assert attack(name, 3.0, norm="l2").alpha == 3.0 / attack(name, 3.0, norm="l2").steps


@pytest.mark.parametrize("epsilon", [0.0078, 1 / 255, 1e-6])
def test_eight_bit_below_one_grey_level_is_refused(epsilon: float) -> None:
    with pytest.raises(SpecError, match=r"attack 'fgsm-8': eight_bit rounds epsilon .* down to 0"):
        attack("fgsm", epsilon, suffix="8", eight_bit=True)


def test_eight_bit_of_one_grey_level_is_accepted() -> None:
    for epsilon in (2 / 255, 1 / GREY_LEVELS_PER_UNIT, 0.0079):
        assert attack("fgsm", epsilon, eight_bit=True).eight_bit
    with pytest.raises(SpecError) as caught:
        attack("fgsm", 0.0078, eight_bit=True)
    assert attack("fgsm", float(str(caught.value).rpartition(" ")[2]), eight_bit=True)  # the remedy works


WRONG: list[tuple[str, Any]] = [
    *(
        ("epsilon", value)
        for value in ("0.02", None, True, float("nan"), float("inf"), 10**400, 0, -0.1, 2.1, [0.02], 1j)
    ),
    *(("alpha", value) for value in ("0.01", None, True, float("nan"), float("inf"), 0, -0.01)),
    *(("steps", value) for value in (2.5, 20.0, "20", None, True, 0, -1, float("nan"), np.float64(20))),
    *(("momentum", value) for value in (float("nan"), float("inf"), "1", None, True, -1)),
    *(("diversity", value) for value in (float("nan"), 1.1, "0.5", True)),
    *(("smoothing", value) for value in (3.0, "3", 0, -1, 4, True)),
    *(("scales", value) for value in (2.5, 0, "5", None)),
    *(("neighbours", value) for value in (-1, 2.0, "2", None)),
    *(("spread", value) for value in (0, -1, float("nan"), "1")),
    *((field, value) for field in ("random_start", "nesterov", "targeted", "eight_bit") for value in ("no", 1, None)),
    *(("label_weights", value) for value in ("11", 1.0, (float("nan"), 1.0), ("1",), (None,), (True,), (-1.0, 2.0))),
    ("norm", None),
    ("norm", ("linf",)),
    ("options", "a"),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda v: repr(v))
@pytest.mark.parametrize("name", ["pgd", "mi_fgsm"])
def test_a_value_of_a_wrong_type_or_range_is_named(name: str, field: str, value: Any) -> None:
    fields = {"epsilon": 0.02, "alpha": 0.01, **({} if field == "steps" else {"steps": 20}), field: value}
    with pytest.raises(SpecError, match=field):
        attack(name, **fields)
    without_alpha = {k: v for k, v in fields.items() if k != "alpha" or field == "alpha"}
    with pytest.raises(SpecError, match=field):  # alpha is then epsilon / steps
        attack(name, **without_alpha)


def test_numpys_numbers_are_those_that_were_typed() -> None:
    plain = attack("pgd", 0.02, alpha=0.005, steps=10, label_weights=(0.0, 1.0), eight_bit=True)
    same = attack(
        "pgd",
        np.float32(0.02),  # type: ignore[arg-type]
        alpha=np.float64(0.005),
        steps=np.int64(10),
        label_weights=[np.float32(0), np.int32(1)],
        eight_bit=np.bool_(True),
    )
    assert same == plain
    assert hash(same) == hash(plain)
    assert same.key == "pgd@0.02"
    assert json.dumps(to_plain(same)) == json.dumps({**to_plain(plain), "label_weights": [0.0, 1]})  # type: ignore[dict-item]
    assert [a.key for a in attack_grid(np.array([0.02, 0.04]))][:2] == ["fgsm@0.02", "fgsm@0.04"]  # type: ignore[arg-type]


def test_whole_numbers_keep_their_type_so_that_old_signatures_stay() -> None:
    spec = attack("fgsm", 1)
    assert spec.key == "fgsm@1"
    assert digest(to_plain(spec)) == digest({**to_plain(attack("fgsm", 1.0)), "epsilon": 1, "alpha": 1.0})  # type: ignore[dict-item]


@pytest.mark.parametrize("suffix", ["a b", "a/b", "8@0.02", "-", "a-", "ε", "a\n", "<b>", 8, None])
def test_a_suffix_that_files_and_trackers_cannot_show_is_refused(suffix: Any) -> None:
    with pytest.raises(SpecError, match="suffix"):
        attack("pgd", 0.02, suffix=suffix)
    with pytest.raises(SpecError, match="suffix"):
        AttackSpec(name=f"pgd-{'' if isinstance(suffix, int) else suffix or ''}", epsilon=0.02, alpha=0.01, steps=2)


def test_epsilons_that_are_no_list_are_named() -> None:
    for epsilons in (0.02, "0.02", None, (0.02, "0.04")):
        with pytest.raises(SpecError, match="epsilon"):
            attack_grid(epsilons)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_size": 64.0}, "block_size is 64.0; expected a whole number"),
        ({"block_size": True}, "block_size is True"),
        ({"block_size": "64"}, "block_size is '64'"),
        ({"block_size": 0}, "block_size is 0"),
        ({"threads": None}, "threads is None"),
        ({"threads": 0}, "threads is 0"),
        ({"shuffle": None}, "shuffle is None"),
        ({"shuffle": "flatt"}, "did you mean 'flat'"),
        ({"crafting": 32}, "precision is 32"),
        ({"scoring": "float16"}, "float32"),
        ({"attacks": attack("pgd", 0.02)}, "attacks is AttackSpec"),
        ({"attacks": ("pgd",)}, "attacks holds 'pgd'"),
        ({"attacks": ()}, "attacks is empty"),
    ],
)
def test_settings_of_the_transfer_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TransferSpec(**{"attacks": attack_grid((0.02,)), **fields})


def test_lists_are_as_good_as_tuples() -> None:
    transfer = TransferSpec(attacks=[attack("pgd", 0.02)], block_size=np.int64(8))  # type: ignore[arg-type]
    assert transfer == TransferSpec(attacks=(attack("pgd", 0.02),), block_size=8)
    assert type(transfer.block_size) is int
    pair = EnsembleSpec(modality="eye", label="pair", members=["a", "b"])  # type: ignore[arg-type]
    assert hash(pair) == hash(EnsembleSpec(modality="eye", label="pair", members=("a", "b")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": "abc"}, "members of ensemble 'pair' is 'abc'"),
        ({"members": ("a", 1)}, "a member of ensemble 'pair' is 1"),
        ({"members": None}, "members of ensemble 'pair' is None"),
        ({"label": 3}, "label of an ensemble is 3"),
    ],
)
def test_values_of_an_ensemble_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        EnsembleSpec(**{"modality": "eye", "label": "pair", "members": ("a", "b"), **fields})


def test_attacks_of_other_packages_may_use_their_steps_in_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raygrid.spec.attacks.plugins", lambda: {"others": None})
    assert attack("others", 0.04, alpha=0.001, steps=2).is_plugin
    assert attack("others", 3.3, norm="l2").alpha == 3.3
    with pytest.raises(SpecError, match="down to 0"):  # raygrid itself rounds their images
        attack("others", 0.0078, eight_bit=True)
    with pytest.raises(SpecError, match="steps is 0"):
        attack("others", 0.04, steps=0)
    for options in ((("a",),), ("ab",), ((1, 2),)):
        with pytest.raises(SpecError, match="options holds"):
            attack("others", 0.04, options=options)


def test_a_stored_study_with_an_unreachable_budget_is_refused_in_words(tmp_path: Path) -> None:
    values = to_plain(TransferSpec(attacks=(attack("pgd", 0.02),)))
    values["attacks"][0]["epsilon"] = 0.3  # type: ignore[index, call-overload]
    study = {"name": "old", "seed": 0, "modalities": [], "models": [], "transfer": values}
    (tmp_path / "study.json").write_text(json.dumps({"study": study, "samples": {}}))
    with pytest.raises(SpecError, match=r"study\.json: attack 'pgd': 20 steps .* epsilon 0.3.* new --output$"):
        open_study(tmp_path)


def test_names_for_readers() -> None:
    assert [displayed(name) for name in ATTACKS] == [
        "FGSM",
        "PGD",
        "MI-FGSM",
        "NI-FGSM",
        "M-DI²-FGSM",
        "TI-MI-FGSM",
        "SI-NI-FGSM",
        "VMI-FGSM",
    ]
    assert displayed("ti_fgsm-8bit") == "TI-MI-FGSM-8bit"
    assert displayed("others-x") == "others-x"
