"""Targets that answer with decisions: declared, recognised where they are not, and assessed as what they are."""

from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from assessment_pages import TARGET, assessment, page
from scored_zoo import as_row, units_of
from sklearn.metrics import balanced_accuracy_score
from target_functions import is_bright
from target_models import LABELS, SIZE, function, opened, scores, target
from target_server import TargetServer
from toy_zoo import make_samples, make_zoo

from raygrid.analysis.auc import auc_with_influence
from raygrid.analysis.frames import result_frames
from raygrid.analysis.operating_point import decide, thresholds_of
from raygrid.data.images.scale import to_unit_range
from raygrid.errors import DataError, SpecError
from raygrid.scoring.scorer import Scorer
from raygrid.spec import AnswerSpec, EndpointSpec, TargetSpec
from raygrid.store.target_identity import target_identity
from raygrid.study.transfer import missing_external_clean
from raygrid.targets import check_target
from raygrid.targets.outputs import DECISION_LOGIT, to_logits

DECISION, INDEX = AnswerSpec(kind="decision"), AnswerSpec(kind="decision", labels=LABELS, exclusive=True)
PROBABILITY = AnswerSpec(kind="probability")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)


@pytest.fixture(scope="module")
def raw(images: np.ndarray) -> np.ndarray:
    return scores(((to_unit_range(images) + 1) / 2).numpy())


def answering(name: str, answer: AnswerSpec) -> TargetSpec:
    return target("callable", f"broken_targets:{name}", answer=answer)


@pytest.mark.parametrize("name", ["decisions", "booleans"])
def test_decisions_become_finite_logits(name: str, images: np.ndarray, raw: np.ndarray) -> None:
    spec = answering(name, DECISION)
    found = opened(spec)
    check_target(spec, found, images)
    assert (found(to_unit_range(images)).numpy() == np.where(raw > 0, DECISION_LOGIT, -DECISION_LOGIT)).all()
    assert (raw > 0).any()
    assert (raw < 0).any()


@pytest.mark.parametrize("name", ["classes", "column_of_classes"])
def test_an_exclusive_decision_is_the_index_of_a_class(name: str, images: np.ndarray, raw: np.ndarray) -> None:
    spec = answering(name, INDEX)
    found = opened(spec)
    check_target(spec, found, images)
    yes = np.arange(3) == raw.argmax(axis=1)[:, None]
    assert (found(to_unit_range(images)).numpy() == np.where(yes, DECISION_LOGIT, -DECISION_LOGIT)).all()


def test_an_index_counts_outputs_that_the_study_has_not() -> None:
    answer = AnswerSpec(kind="decision", labels=("", "lesion", "other"), exclusive=True)
    assert answer.num_outputs(["lesion"]) == 1
    rows = np.array([[0.0], [1.0], [2.0]])
    assert to_logits("t", rows, answer, [1])[:, 0].tolist() == [-DECISION_LOGIT, DECISION_LOGIT, -DECISION_LOGIT]


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("sure", DECISION, "expected a decision, 0 or 1. If its answers are scores, declare kind='probability'"),
        ("signs", DECISION, "answered -1; expected a decision, 0 or 1"),
        ("classes_from_7", INDEX, r"answered \d+; expected the index of a class, a whole number from 0 to 2"),
        ("classes", AnswerSpec(), "If it answers with the index of a class, declare kind='decision', exclusive=True"),
        ("decisions", AnswerSpec(), "every answer is exactly 0 or 1, .*; expected scores .logit.. Declare kind='deci"),
        ("booleans", PROBABILITY, "every answer is exactly 0 or 1, .* expected scores .probability.. Declare kind="),
        ("one_hot", replace(PROBABILITY, labels=LABELS, exclusive=True), "kind='decision' .*, without exclusive"),
        ("signs", AnswerSpec(), "every answer is exactly -1 or 1, .* Return 0 or 1, kind='decision'"),
    ],
)
def test_the_check_tells_decisions_from_scores(name: str, answer: AnswerSpec, message: str, images: np.ndarray) -> None:
    spec = answering(name, answer)
    with pytest.raises(DataError, match=message):
        check_target(spec, opened(spec), images)


def test_two_images_are_enough_and_equal_answers_are_no_proof(images: np.ndarray, raw: np.ndarray) -> None:
    spec = answering("decisions", PROBABILITY)
    different = np.flatnonzero(((raw > 0) != (raw[0] > 0)).any(axis=1))[0]
    with pytest.raises(DataError, match="exactly 0 or 1"):
        check_target(spec, opened(spec), images[[0, different]])
    with pytest.raises(DataError, match="exactly 0 or 1"):  # a black and a white image are answered differently
        check_target(spec, opened(spec), images[[0, 0]])


def test_saturated_probabilities_are_probabilities(images: np.ndarray) -> None:
    for name in ("sure", "sure_decisions"):
        spec = answering(name, PROBABILITY)
        found = opened(spec)
        answers = found.answers(to_unit_range(images))
        if name == "sure_decisions":
            assert np.isin(answers, (0, 1)).all()  # as decisions on these images
        check_target(spec, found, images)


@pytest.mark.parametrize("count", [8, 4])
@pytest.mark.parametrize("answer", [PROBABILITY, AnswerSpec()])
def test_an_endpoint_is_asked_two_more_images_at_most(
    answer: AnswerSpec, count: int, images: np.ndarray, tmp_path: Path
) -> None:
    def serve(arrays: list[np.ndarray]) -> np.ndarray:
        return (scores(np.stack(arrays)) > 0).astype(float)

    fast = EndpointSpec(requests_per_second=10_000, retries=0, batch_size=count)
    with TargetServer(serve) as server:
        spec = target("http", server.url, answer=answer, endpoint=fast)
        found = opened(spec, tmp_path)
        if count == 8:
            with pytest.raises(DataError, match="every answer is exactly 0 or 1"):
                check_target(spec, found, images)
        elif answer.kind == "probability":  # too few images to be sure
            check_target(spec, found, images)
        assert len(list(tmp_path.glob("*.json"))) <= 2
        sound = replace(spec, answer=DECISION)
        check_target(sound, opened(sound, tmp_path), images)


def test_decisions_have_no_gradient() -> None:
    with pytest.raises(SpecError, match="answers with decisions, which have no gradients"):
        function("make_network", kind="checkpoint", weights="/w", answer=DECISION, attacked_through=True)


def test_the_kind_of_answer_is_part_of_the_identity() -> None:
    one = function("scores")
    assert target_identity(one) != target_identity(replace(one, answer=DECISION))


# --- their numbers


def test_the_auc_of_decisions_is_their_balanced_accuracy() -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random((300, 2)) < 0.3).astype(np.uint8)
    decisions = np.where(generator.random((300, 2)) < 0.3, 1 - labels, labels).astype(np.float64)
    logits = to_logits("t", decisions, DECISION, [0, 1])[None]
    found = auc_with_influence(labels, logits, np.arange(300))
    expected = [balanced_accuracy_score(labels[:, k], decisions[:, k]) for k in range(2)]
    assert found.by_label[0] == pytest.approx(expected)


@pytest.mark.parametrize("false_alarms", [0, 5, 20, 40])
def test_the_operating_point_of_decisions_is_their_own(false_alarms: int) -> None:
    # 40 negatives and 10 positives, of which 7 are found
    labels = np.array([[0]] * 40 + [[1]] * 10, dtype=np.uint8)
    decisions = np.array([1.0] * false_alarms + [0.0] * (40 - false_alarms) + [1.0] * 7 + [0.0] * 3)[:, None]
    clean = to_logits("t", decisions, DECISION, [0])[None]
    found = decide(labels, clean, clean, thresholds_of(labels, clean, [True]))
    assert found.sensitivity[0, 0] == 0.7
    assert found.specificity[0, 0] == 1 - false_alarms / 40
    assert found.brier[0, 0] == pytest.approx((false_alarms + 3) / 50)  # the share of wrong decisions
    assert found.mean_probability[0, 0] == pytest.approx((false_alarms + 7) / 50)
    turned = to_logits("t", 1 - decisions, DECISION, [0])[None]
    assert decide(labels, turned, clean, thresholds_of(labels, clean, [True])).fooled[0, 0] == 1


def test_scores_keep_their_threshold_beside_a_target_of_decisions() -> None:
    labels = np.array([[0]] * 10 + [[1]] * 10, dtype=np.uint8)
    logits = np.linspace(-1, 1, 20, dtype=np.float32)[None, :, None]
    both = thresholds_of(labels, np.concatenate([logits, logits]), [False, True])
    assert both[0] == thresholds_of(labels, logits)[0] != 0
    assert both[1] == 0


def test_the_results_of_a_study_hold_the_decisions_themselves(tmp_path: Path) -> None:
    decided = TargetSpec(
        modality="toy", label="decided", kind="callable", source="target_functions:is_bright", answer=DECISION
    )
    scored = replace(decided, label="scored", source="target_functions:brightness", answer=AnswerSpec())
    zoo = make_zoo(tmp_path / "study", targets=(decided, scored), zoo_as_targets=False)
    make_samples(zoo.samples_dir("toy"))
    job = {"study": zoo.study.to_dict(), "study_dir": str(zoo.path), "samples": dict(zoo.sample_signatures)}
    scorer = Scorer({**job, "modality": "toy", "device": "cpu", "names": [decided.name, scored.name]})
    for file in missing_external_clean(zoo.study, units_of(zoo)):
        assert not scorer(as_row(zoo, file))["error"][0]
    samples = zoo.samples("toy")
    frame, decisions = result_frames(zoo, "toy", samples)
    images = samples.test_block(0, samples.num_test)
    truth = images.labels[:, 0] == 1
    answers = is_bright(images.images.transpose(0, 3, 1, 2).astype(np.float32) / 255)[:, 0]
    assert (~answers[~truth]).mean() < 0.9  # so a threshold of that specificity would turn every image away
    own = decisions.set_index("target").loc[decided.name]
    assert own["threshold"] == 0
    assert own["sensitivity"] == pytest.approx(answers[truth].mean())
    assert own["specificity"] == pytest.approx((~answers[~truth]).mean())
    assert own["auc"] == pytest.approx(balanced_accuracy_score(truth, answers))
    assert decisions.set_index("target").loc[scored.name]["threshold"] != 0
    assert frame.set_index("target").loc[decided.name]["auc"] == pytest.approx(own["auc"])


SENTENCE = "The model answers with decisions, not scores. Its AUC therefore has one operating point"


def test_the_page_describes_decisions_only_where_the_target_gives_them() -> None:
    def text(answer: AnswerSpec) -> str:
        shown = page(replace(assessment(), target=replace(TARGET, answer=answer)))
        return " ".join(unescape(shown).split())

    decided, scored = text(DECISION), text(PROBABILITY)
    for words, in_decided, in_scored in (
        (SENTENCE, True, False),
        ("of the model's own decisions", True, False),
        ("The decisions are the model's own", True, False),
        ("equal scores counted as half", True, False),
        ("with lesion: decision yes", True, False),
        ("with lesion: probability 0.93", False, True),
        ("The threshold was chosen on these clean images", False, True),
        ("specificity of at least 90%", False, True),
    ):
        assert (words in decided) == in_decided, words
        assert (words in scored) == in_scored, words
