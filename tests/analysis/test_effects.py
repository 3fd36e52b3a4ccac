"""Factor effects: planted effects are recovered, and null effects are found at the nominal rate."""

import math

import numpy as np
import pandas as pd
import pytest
from simulated_studies import simulated_frame

from raygrid.analysis.effects import COLUMNS, data_parity, factor_effects
from raygrid.errors import DataError

PLANTED = {
    "epsilon": -0.1,
    "attack": 0.02,
    "target": -0.05,
    "surrogate": 0.03,
    "both": -0.2,
    "architecture": 0.08,
    "data": 0.06,
}


def by_name(effects: pd.DataFrame) -> pd.Series:
    return effects.set_index(["factor", "to"])["effect"]


def test_planted_effects_are_recovered_exactly_without_noise() -> None:
    effects = factor_effects(simulated_frame(np.random.default_rng(1), planted=PLANTED))
    assert list(effects.columns) == COLUMNS
    found = by_name(effects)
    assert found["perturbation degree, ε", "0.04"] == pytest.approx(-0.1)
    assert found["attack", "pgd"] == pytest.approx(0.02)
    assert found["other architecture", "yes"] == pytest.approx(0.08)
    assert found["both pre-trained, beyond each alone", "together"] == pytest.approx(-0.2)
    # the interaction counts with the share of rows whose other side is pre-trained too
    frame = simulated_frame(np.random.default_rng(1))
    attacked = frame[frame["condition"] == "adversarial"]
    pre = (attacked["surrogate_init"] == "pre").mean(), (attacked["target_init"] == "pre").mean()
    assert found["target pre-trained", "yes"] == pytest.approx(-0.05 - 0.2 * pre[0])
    assert found["surrogate pre-trained", "yes"] == pytest.approx(0.03 - 0.2 * pre[1])
    assert found["data of surrogate and target", "disjoint"] == pytest.approx(0.06)


def test_few_trainings_give_intervals_from_patients_alone() -> None:
    frame = simulated_frame(np.random.default_rng(2), instances=2, planted={"attack": 0.02}, patients=0.01)
    effects = factor_effects(frame)
    assert effects["conditional"].all()
    assert effects["error_trainings"].isna().all()
    # every row has the same influence, so a difference of rows has none
    assert effects["error_patients"].max() == pytest.approx(0, abs=1e-12)
    one = frame["condition"].eq("adversarial") & frame["attack"].eq("pgd")
    frame.loc[one, "influence"] = frame.loc[one, "influence"].map(lambda influence: 3 * influence)
    attack = factor_effects(frame).set_index("factor").loc["attack"]
    assert attack["error_patients"] == pytest.approx((3 - 1) * 0.01 / 0.8)


def test_three_trainings_of_each_family_add_their_variation_to_the_interval() -> None:
    effects = factor_effects(simulated_frame(np.random.default_rng(3), spread=0.05))
    assert not effects["conditional"].any()
    errors = effects.set_index("factor")["error_trainings"]
    assert errors["attack"] == pytest.approx(0, abs=1e-9)  # each pairing has both attacks: it cancels


def test_errors_match_the_scatter_of_estimates_and_null_effects_are_rarely_significant() -> None:
    studies = [
        factor_effects(simulated_frame(np.random.default_rng(100 + study), spread=0.05), seed=study).iloc[2:4]
        for study in range(30)
    ]
    found = pd.concat(studies)
    assert set(found["factor"]) == {"target pre-trained", "surrogate pre-trained"}
    scatter, error = found["effect"].std(), math.sqrt(np.mean(found["error_trainings"] ** 2))
    assert 0.75 < error / scatter < 1.6
    # 60 intervals; benchmarks/effects_coverage.py has thousands
    assert np.mean((found["low"] > 0) | (found["high"] < 0)) <= 0.12


def test_logit_outcomes_are_of_the_shrunk_auc() -> None:
    frame = simulated_frame(np.random.default_rng(4), planted={"attack": 0.02})
    attacked = frame["condition"].eq("adversarial")
    frame.loc[attacked, "auc"] = np.where(frame.loc[attacked, "attack"] == "pgd", 1.0, 0.0)
    found = by_name(factor_effects(frame, "logit"))
    low = math.log((0.5 / 81) / (80.5 / 81))
    assert found["attack", "pgd"] == pytest.approx(-2 * low)


def test_an_unknown_outcome_raises() -> None:
    with pytest.raises(DataError, match="'relative' or 'logit'"):
        factor_effects(simulated_frame(np.random.default_rng(1)), "auc")  # type: ignore[arg-type]


def test_a_study_without_attacks_has_no_effects() -> None:
    frame = simulated_frame(np.random.default_rng(1))
    assert factor_effects(frame[frame["condition"] == "clean"]).empty


@pytest.mark.parametrize(
    ("target", "surrogate", "level"),
    [
        ("d1", "d1", "same"),
        ("d1", "d2", "disjoint"),
        ("d2_half", "d1", "disjoint"),  # no fewer
        ("d1", "d2_half", "half as many, disjoint"),
        ("d2", "d1_tenth", "far fewer, disjoint"),
        ("d2_half", "d1_tenth", "far fewer, disjoint"),
        ("d1", "d1_tenth", "overlapping"),
        ("d2_half", "d2", "overlapping"),
        ("d1", "development", "overlapping"),
    ],
)
def test_relation_of_two_splits(target: str, surrogate: str, level: str) -> None:
    assert data_parity(target, surrogate) == level


def test_a_side_with_a_single_training_makes_effects_conditional() -> None:
    frame = simulated_frame(np.random.default_rng(2), spread=0.1)
    half_done = frame[(frame["condition"] == "clean") | (frame["surrogate_instance"] == 0)]
    assert not factor_effects(frame)["conditional"].any()
    assert factor_effects(half_done)["conditional"].all()


def test_draws_without_a_level_are_left_out() -> None:
    frame = simulated_frame(np.random.default_rng(3))  # no noise, so no variation
    few = frame[(frame["target_arch"] == "a") & frame["surrogate_arch"].isin(["a", ""])]
    assert factor_effects(few)["error_trainings"].max() < 1e-12
