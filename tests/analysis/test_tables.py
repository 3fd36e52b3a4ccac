"""Tables 1 to 3 against cells worked out by hand; every number a test expects is written as arithmetic here."""

import dataclasses
import math
import re
import shutil
import subprocess

import pandas as pd
import pytest
from auc_frames import UNTOUCHED, model, set_row, small_frame, small_study, with_ensemble, without

from raygrid.analysis import tables
from raygrid.analysis.tables import beside_published, published_tables
from raygrid.errors import DataError
from raygrid.report import table_text
from raygrid.spec import EnsembleSpec

PRE = "pretrained_on:textures"
A0, A1, B0, B1 = model("a"), model("a", instance=1), model("b"), model("b", instance=1)
A_D2, B_D2 = model("a", split="d2"), model("b", split="d2")
AP0, AP1, BP0, BP1 = (model(arch, PRE, instance=k) for arch in "ab" for k in (0, 1))
RANDOM_D1 = [A0, A1, B0, B1]

# The four pairings of the protocol: the same family through the twin, the other architecture through instance 0.
FGSM = {(A1, A0): 0.40, (B0, A0): 0.50, (A0, B0): 0.60, (B1, B0): 0.54}
PGD = {(A1, A0): 0.44, (B0, A0): 0.52, (A0, B0): 0.56, (B1, B0): 0.60}


def _frame(models: list) -> pd.DataFrame:
    """Return the pairings of FGSM and PGD above at epsilon 0.02 that `models` has; clean AUC of A0 0.80, of B0 0.75."""
    frame = small_frame(models)
    for values, attack in ((FGSM, "fgsm"), (PGD, "pgd")):
        for (surrogate, target), auc in ((pair, auc) for pair, auc in values.items() if {*pair} <= {*models}):
            set_row(frame, surrogate, target, attack, 0.02, auc=auc)
    for target, auc in ((A0, 0.80), (B0, 0.75)):
        if target in models:
            set_row(frame, None, target, auc=auc)
    return frame


def _cell(cells: pd.DataFrame, **factors: object) -> pd.Series:
    for name, value in factors.items():
        cells = cells[cells[name] == value]
    assert len(cells) == 1, f"{len(cells)} cells for {factors}"
    return cells.iloc[0]


def test_table1_cell_by_hand():
    cells = tables.table1(_frame(RANDOM_D1))
    cell = _cell(cells, condition="adversarial", attack="fgsm", epsilon=0.02)
    assert cell["auc"] == pytest.approx((0.40 + 0.50 + 0.60 + 0.54) / 4, abs=1e-12)
    # Per pairing, attacked / that target's clean AUC, then averaged; not the ratio of the means.
    relative = (0.40 / 0.80 + 0.50 / 0.80 + 0.60 / 0.75 + 0.54 / 0.75) / 4
    assert cell["relative_percent"] == pytest.approx(100 * relative, abs=1e-9)
    assert (cell["num_pairings"], cell["num_expected"], cell["num_images"], cell["num_patients"]) == (4, 4, 40, 2)
    assert re.fullmatch("[0-9a-f]{64}", cell["signature"])


def test_table1_has_every_condition_attack_and_epsilon_and_a_clean_cell():
    frame = _frame(RANDOM_D1)
    set_row(frame, B0, A0, "pgd", 0.04, condition="control", auc=0.70)
    cells = tables.table1(frame)
    assert len(cells) == 1 + 2 * 2 * 2
    control = _cell(cells, condition="control", attack="pgd", epsilon=0.04)
    assert control["auc"] == pytest.approx((UNTOUCHED * 3 + 0.70) / 4)
    assert _cell(cells, condition="clean")["auc"] == pytest.approx((0.80 + 0.75) / 2)


def test_all_instances_is_the_mean_over_architecture_pairs_of_the_mean_over_instance_pairs():
    cells = tables.table1(_frame(RANDOM_D1), instances="all")
    cell = _cell(cells, condition="adversarial", attack="fgsm", epsilon=0.02)
    a_a, b_b = (0.40 + 0.9) / 2, (0.54 + 0.9) / 2  # A1→A0, A0→A1; never a model through itself
    b_a, a_b = (0.50 + 3 * 0.9) / 4, (0.60 + 3 * 0.9) / 4
    assert cell["auc"] == pytest.approx((a_a + b_b + b_a + a_b) / 4, abs=1e-12)
    assert (cell["num_pairings"], cell["num_architecture_pairs"]) == (2 + 2 + 4 + 4, 4)


def test_interval_of_a_cell_keeps_the_covariance_of_its_pairings():
    frame = _frame(RANDOM_D1)
    frame["influence"] = [[0.0, 0.0] for _ in range(len(frame))]
    set_row(frame, A1, A0, "fgsm", 0.02, influence=[0.04, -0.04])
    set_row(frame, B0, A0, "fgsm", 0.02, influence=[0.04, -0.04])
    cell = _cell(tables.table1(frame), condition="adversarial", attack="fgsm", epsilon=0.02)
    # Mean influence (0.02, -0.02); variance 2/1 · (0.0004 + 0.0004), error 0.04; mean AUC 0.51; t(1) = 12.7.
    reach = 12.706205 * 0.04 / (0.51 * 0.49)
    centre = math.log(0.51 / 0.49)
    assert cell["auc_low"] == pytest.approx(1 / (1 + math.exp(-(centre - reach))), abs=1e-6)
    assert cell["auc_high"] == pytest.approx(1 / (1 + math.exp(-(centre + reach))), abs=1e-6)
    # Relative: two pairings with influence 0.04 / 0.8 = 0.05, mean 0.025, error 0.05, log scale around 0.66125.
    factor = math.exp(12.706205 * 0.05 / 0.66125)
    assert cell["relative_low"] == pytest.approx(66.125 / factor, abs=1e-4)
    assert cell["relative_high"] == pytest.approx(66.125 * factor, abs=1e-4)


def test_an_attacked_auc_proportional_to_the_clean_one_has_an_exact_relative_auc():
    frame = small_frame(RANDOM_D1)
    for surrogate, target in FGSM:
        # attacked = 1/2 clean and moves with it: dA = dB / 2
        set_row(frame, surrogate, target, "fgsm", 0.02, auc=0.4, influence=[0.005, -0.005])
    cell = _cell(tables.table1(frame), condition="adversarial", attack="fgsm", epsilon=0.02)
    assert (cell["relative_low"], cell["relative_high"]) == pytest.approx((50, 50))
    assert cell["auc_high"] - cell["auc_low"] > 0.02


def test_table2_cells_by_hand():
    frame = _frame([*RANDOM_D1, AP0, AP1, BP0, BP1])
    # pre-trained → pre-trained: the twin (instance 1) for the same architecture
    for pair, fgsm, pgd in [
        ((AP1, AP0), 0.1, 0.2),
        ((BP0, AP0), 0.3, 0.4),
        ((AP0, BP0), 0.5, 0.6),
        ((BP1, BP0), 0.7, 0.8),
    ]:
        set_row(frame, *pair, "fgsm", 0.02, auc=fgsm)
        set_row(frame, *pair, "pgd", 0.02, auc=pgd)
    # random → pre-trained: another init, so instance 0 also for the same architecture
    for pair in [(A0, AP0), (B0, AP0), (A0, BP0), (B0, BP0)]:
        set_row(frame, *pair, "fgsm", 0.02, auc=0.60)
        set_row(frame, *pair, "pgd", 0.02, auc=0.62)
    cells = tables.table2(frame)
    own = _cell(cells, target_init=PRE, surrogate_init=PRE)
    assert own["auc"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6 + 0.7 + 0.8) / 8)
    assert own["relative_percent"] == pytest.approx(100 * 0.45 / 0.8)
    other = _cell(cells, target_init=PRE, surrogate_init="random")
    assert other["auc"] == pytest.approx(0.61)
    average = _cell(cells, target_init=PRE, surrogate_init="mean")
    assert average["relative_percent"] == pytest.approx(100 * (0.45 / 0.8 + 0.61 / 0.8) / 2)
    assert _cell(cells, target_init=PRE, condition="clean")["auc"] == pytest.approx(0.8)
    assert _cell(cells, target_init="random", condition="clean")["relative_percent"] == 100
    assert set(cells.loc[cells["condition"] != "clean", "epsilon"]) == {0.02}


def test_table2_uses_the_given_epsilon():
    cells = tables.table2(_frame(RANDOM_D1), reference_epsilon=0.04)
    assert _cell(cells, surrogate_init="random")["auc"] == pytest.approx(UNTOUCHED)
    with pytest.raises(DataError, match=r"0\.03 is not in the data"):
        tables.table2(_frame(RANDOM_D1), reference_epsilon=0.03)


def test_tables_2_and_3_use_the_epsilon_of_the_paper_or_else_the_smallest():
    frame = _frame([*RANDOM_D1, A_D2])
    finer = frame[frame["epsilon"] == 0.02].assign(epsilon=0.01, auc=0.3)
    both = pd.concat([frame, finer], ignore_index=True)
    for make in (tables.table2, tables.table3):
        attacked = make(both).query("condition == 'adversarial'")
        assert set(attacked["epsilon"]) == {0.02}
        coarse = frame[(frame["condition"] == "clean") | (frame["epsilon"] == 0.04)]
        assert set(make(coarse).query("condition == 'adversarial'")["epsilon"]) == {0.04}


def test_an_attack_with_a_single_epsilon_leaves_no_missing_cells():
    frame = _frame([*RANDOM_D1, A_D2])
    ragged = frame[~((frame["attack"] == "fgsm") & (frame["epsilon"] == 0.04))]
    cells = pd.concat([make(ragged) for make in (tables.table1, tables.table2, tables.table3)])
    assert cells["auc"].notna().sum() == len(cells) - _missing_without_models(cells)
    one = tables.table1(ragged)
    assert len(one) == 1 + 2 * 3
    at = tables.table2(ragged, reference_epsilon=0.04).query(
        "condition == 'adversarial' and surrogate_init == 'random'"
    )
    assert at["auc"].tolist() == pytest.approx([UNTOUCHED])  # of PGD alone


def _missing_without_models(cells: pd.DataFrame) -> int:
    """Count the cells of Table 3 without models in the frame: d2 surrogates of architecture b."""
    return int(((cells["table"] == 3) & (cells["surrogate_split"] == "d2")).sum())


def test_findings_left_out_of_a_mean_are_named():
    frame = _frame(RANDOM_D1)
    assert tables.labels_left_out(frame) == []
    (sentence,) = tables.labels_left_out(frame.assign(labels_left_out="hernia, mass"))
    assert sentence.startswith("eye: no AUC for hernia, mass:")


def test_table3_cells_by_hand():
    frame = _frame([*RANDOM_D1, A_D2, B_D2])
    for pair, auc in [((A_D2, A0), 0.61), ((B_D2, B0), 0.65), ((B_D2, A0), 0.71), ((A_D2, B0), 0.75)]:
        set_row(frame, *pair, "fgsm", 0.02, auc=auc)
        set_row(frame, *pair, "pgd", 0.02, auc=auc - 0.02)
    cells = tables.table3(frame)
    same = _cell(cells, architecture="same", surrogate_split="d1")
    assert same["auc"] == pytest.approx((0.40 + 0.54 + 0.44 + 0.60) / 4)
    assert same["num_expected"] == 2
    assert _cell(cells, architecture="different", surrogate_split="d1")["auc"] == pytest.approx(
        (0.50 + 0.60 + 0.52 + 0.56) / 4
    )
    # Another split: instance 0 of the same architecture, not the twin.
    assert _cell(cells, architecture="same", surrogate_split="d2")["auc"] == pytest.approx(
        (0.61 + 0.65 + 0.59 + 0.63) / 4
    )
    assert _cell(cells, architecture="different", surrogate_split="d2")["auc"] == pytest.approx(0.72)


@pytest.mark.parametrize("instances", ["published", "all"])
def test_the_three_cells_agree(instances):
    frame = _frame([*RANDOM_D1, A_D2, B_D2, AP0, AP1, BP0, BP1])
    parts = [f(frame, instances=instances) for f in (tables.table1, tables.table2, tables.table3)]
    agreement = tables.check_agreement(*parts)
    assert agreement["difference"].max() < 1e-9
    if instances == "published":
        assert agreement["table1"].item() == pytest.approx((0.51 + 0.53) / 2)


def test_the_three_cells_agree_with_three_architectures():
    models = [model(arch, instance=k) for arch in "abc" for k in (0, 1)]
    frame = small_frame(models)
    for k in frame.index[frame["condition"] == "adversarial"]:
        frame.at[k, "auc"] = 0.2 + 0.001 * k
    agreement = tables.check_agreement(tables.table1(frame), tables.table2(frame), tables.table3(frame))
    assert agreement["difference"].max() < 1e-9


def test_disagreement_is_reported():
    frame = _frame(RANDOM_D1)
    parts = [tables.table1(frame), tables.table2(frame), tables.table3(frame)]
    parts[1]["auc"] += 0.01
    assert tables.check_agreement(*parts)["difference"].item() == pytest.approx(0.01)


def test_a_missing_pairing_is_shown_as_missing_and_not_averaged():
    frame = without(_frame(RANDOM_D1), B0, A0)
    one, two, three = tables.table1(frame), tables.table2(frame), tables.table3(frame)
    cell = _cell(one, condition="adversarial", attack="fgsm", epsilon=0.02)
    assert math.isnan(cell["auc"])
    assert math.isnan(cell["relative_percent"])
    assert (cell["num_pairings"], cell["num_expected"], cell["signature"]) == (3, 4, "")
    assert "missing (3 of 4)" in table_text.to_paper_shape(1, one).to_string()
    assert "shown as missing" in " ".join(table_text.notices_of(one, phantom=False))
    # The same-architecture cell does not need that pairing.
    assert _cell(three, architecture="same", surrogate_split="d1")["auc"] == pytest.approx(0.495)
    assert math.isnan(tables.check_agreement(one, two, three)["difference"].item())


def test_a_row_without_a_number_is_a_missing_pairing():
    frame = _frame(RANDOM_D1)
    set_row(frame, B0, A0, "fgsm", 0.02, auc=math.nan)
    cells = tables.table1(frame)
    assert math.isnan(_cell(cells, condition="adversarial", attack="fgsm", epsilon=0.02)["auc"])
    assert _cell(cells, condition="adversarial", attack="pgd", epsilon=0.02)["auc"] == pytest.approx(0.53)


def test_declared_models_are_expected_even_if_the_frame_lacks_them():
    frame, study = _frame([A0, A1]), small_study(RANDOM_D1)
    cell = _cell(tables.table1(frame, study=study), condition="adversarial", attack="fgsm", epsilon=0.02)
    assert (cell["num_pairings"], cell["num_expected"]) == (1, 4)
    lacking = tables.missing_pairings(frame, study)
    assert len(lacking) == 16 - 4 + 2
    assert set(lacking.loc[lacking["surrogate"] != "", "missing"]) == {8}
    assert tables.missing_pairings(_frame(RANDOM_D1), study).empty


def test_ensembles_are_expected_but_not_in_the_tables_of_the_paper():
    frame, study = _frame(RANDOM_D1), small_study(RANDOM_D1)
    some = EnsembleSpec(modality="eye", label="some", members=(A0.name, B0.name))
    study = dataclasses.replace(study, ensembles=(some,))
    lacking = tables.missing_pairings(frame, study)
    assert set(lacking["surrogate"]) == {"ensemble-some"}
    assert list(lacking["target"]) == [m.name for m in RANDOM_D1]
    larger = with_ensemble(frame, [A0, B0], auc=0.1)
    assert tables.missing_pairings(larger, study).empty
    for make in (tables.table1, tables.table2, tables.table3):
        pd.testing.assert_frame_equal(make(larger, study=study), make(frame, study=study))


def test_without_a_twin_the_same_architecture_pairing_is_missing_not_white_box():
    cells = tables.table1(small_frame([A0, B0]))
    cell = _cell(cells, condition="adversarial", attack="fgsm", epsilon=0.02)
    assert (cell["num_pairings"], cell["num_expected"]) == (2, 4)
    assert math.isnan(cell["auc"])


def test_a_missing_clean_auc_removes_only_the_relative_auc():
    cell = _cell(
        tables.table1(without(_frame(RANDOM_D1), None, B0)), attack="fgsm", epsilon=0.02, condition="adversarial"
    )
    assert cell["auc"] == pytest.approx(0.51)
    assert math.isnan(cell["relative_percent"])


def test_a_duplicate_row_raises():
    frame = _frame(RANDOM_D1)
    with pytest.raises(DataError, match="twice"):
        tables.table1(pd.concat([frame, frame.iloc[[3]]]))


def test_the_signature_follows_the_models_of_the_cell_and_no_others():
    frame = _frame([*RANDOM_D1, A_D2, B_D2])
    changed = frame.copy()
    changed.loc[changed["surrogate"] == A_D2.name, "surrogate_signature"] = "other"
    changed.loc[changed["target"] == A_D2.name, "target_signature"] = "other"
    before, after = tables.table3(frame), tables.table3(changed)
    differs = before["signature"] != after["signature"]
    assert set(before.loc[differs, "surrogate_split"]) == {"d2"}
    assert differs.sum() == 2


def test_models_that_did_not_learn_void_the_tables_that_use_them():
    frame = _frame([*RANDOM_D1, A_D2, B_D2])
    set_row(frame, None, A_D2, auc=0.62, auc_low=0.55)
    assert tables.unlearned(frame) == ["eye/a-random-d2-0"]
    assert tables.unlearned(frame, bound=0.5) == []
    assert table_text.void_notice(tables.table1(frame)) == ""
    notice = table_text.void_notice(tables.table3(frame))
    assert "VOID" in notice
    assert "eye/a-random-d2-0" in notice
    assert "VOID" in table_text.to_markdown(3, tables.table3(frame))
    assert "VOID" not in table_text.to_markdown(1, tables.table1(frame))


def test_a_lower_bound_of_exactly_the_bound_is_not_learned():
    frame = _frame(RANDOM_D1)
    set_row(frame, None, A0, auc_low=0.6)
    assert tables.unlearned(frame) == ["eye/a-random-d1-0"]


def test_paper_shape():
    frame = _frame([*RANDOM_D1, A_D2, B_D2, AP0, AP1, BP0, BP1])
    one = table_text.to_paper_shape(1, tables.table1(frame), intervals=False)
    assert list(one.columns) == ["Data", "Noise", "FGSM ε = 0.02", "FGSM ε = 0.04", "PGD ε = 0.02", "PGD ε = 0.04"]
    assert one.iloc[1].tolist() == ["eye", "adversarial", "0.51", "0.90", "0.53", "0.90"]
    with_interval = table_text.to_paper_shape(1, tables.table1(frame)).iloc[1, 2]
    assert re.fullmatch(r"0\.51 \[0\.\d\d, 0\.\d\d\]", with_interval)
    two = table_text.to_paper_shape(2, tables.table2(frame), intervals=False)
    assert two["Target"].tolist() == ["pre-trained on textures"] * 4 + ["random"] * 4
    row = two[(two["Target"] == "random") & (two["Surrogate"] == "random")]
    # (0.66125 + the mean 0.68667 of the PGD ratios 0.44/0.8, 0.52/0.8, 0.56/0.75, 0.60/0.75) / 2 = 67.4 %
    assert row["eye"].item() == "0.52 (67%)"
    three = table_text.to_paper_shape(3, tables.table3(frame), intervals=False)
    assert three["Training set"].tolist() == ["none (clean)", "d1", "d2", "d1", "d2"]
    with pytest.raises(DataError, match="expected 1, 2 or 3"):
        table_text.to_paper_shape(4, tables.table1(frame))


@pytest.mark.parametrize("render", [table_text.to_markdown, table_text.to_latex, table_text.to_terminal])
def test_the_phantom_watermark_is_on_every_form(render):
    cells = tables.table2(_frame([*RANDOM_D1, AP0, AP1, BP0, BP1]))
    assert table_text.PHANTOM_NOTICE in render(2, cells, phantom=True)
    assert table_text.PHANTOM_NOTICE not in render(2, cells, phantom=False)
    assert "ImageNet" not in render(2, cells, phantom=True)
    assert "pre-trained on textures" in render(2, cells, phantom=True)


def test_latex_is_escaped_and_balanced():
    frame = _frame(RANDOM_D1)
    frame["modality"] = "eye_left"
    set_row_clean = frame["condition"].eq("clean") & frame["target"].eq(A0.name)
    frame.loc[set_row_clean, "auc_low"] = 0.5  # puts a model name with an underscore into the caption
    text = table_text.to_latex(2, tables.table2(frame), phantom=True)
    assert r"eye\_left" in text
    assert re.search(r"\d\\%", text)
    assert not re.search(r"(?<!\\)_", text)
    assert not re.search(r"(?<!\\)%(?!\n)", text)
    assert "ε" not in text
    begins, ends = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert begins == ends[::-1]
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in rows}) == 1
    assert table_text.escape_latex("a_b & 5% #1 $x {y} ~ ^ \\") == (
        r"a\_b \& 5\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


@pytest.mark.slow
def test_latex_compiles(tmp_path):
    assert shutil.which("pdflatex"), "this test needs pdfLaTeX: apt-get install texlive-latex-recommended"
    frame = _frame([*RANDOM_D1, AP0, AP1, BP0, BP1])
    frame["modality"] = "eye_left & 5% #1 $x {y} ~ ^ \\"
    made = [
        table_text.to_latex(number, make(frame), phantom=True)
        for number, make in ((1, tables.table1), (2, tables.table2), (3, tables.table3))
    ]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "page.tex").write_text("\n".join([head, *made, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_rows_have_as_many_cells_as_the_header():
    lines = [
        line for line in table_text.to_markdown(1, tables.table1(_frame(RANDOM_D1))).splitlines() if line[:1] == "|"
    ]
    assert len(lines) == 2 + 3
    assert len({line.count("|") for line in lines}) == 1


def test_a_frame_read_from_parquet_gives_the_same_cells(tmp_path):
    frame = _frame(RANDOM_D1)
    frame.to_parquet(tmp_path / "auc.parquet")
    pd.testing.assert_frame_equal(tables.table1(pd.read_parquet(tmp_path / "auc.parquet")), tables.table1(frame))


def test_shared_cells_have_both_the_study_and_the_published_numbers():
    models = [model(a, i, modality="pathology", instance=k) for a in "ab" for i in ("random", PRE) for k in (0, 1)]
    frame = small_frame(models)
    cells = {n: make(frame) for n, make in enumerate((tables.table1, tables.table2, tables.table3), start=1)}
    beside = beside_published(cells)
    assert set(beside["modality"]) == {"pathology"}
    one = beside[beside["table"] == 1]
    assert len(one) == 1 + 2 * 2 * 2  # clean, then attack x condition x the two epsilons that both have
    fgsm = _cell(one, condition="adversarial", attack="fgsm", epsilon=0.04)
    assert (fgsm["auc"], fgsm["published_auc"]) == (pytest.approx(UNTOUCHED), 0.38)
    own_name = _cell(beside[beside["table"] == 2], target_init=PRE, surrogate_init=PRE)
    assert (own_name["published_auc"], own_name["published_relative"]) == (0.68, 78)
    assert len(beside[beside["table"] == 3]) == 3  # clean and d1 with either architecture: there is no d2


def test_the_published_tables_equal_themselves():
    whole = {
        n: t.reindex(columns=[*t.columns, "auc_low", "auc_high", "relative_low", "relative_high"])
        for n, t in published_tables().items()
    }
    beside = beside_published(whole)
    assert len(beside) == 84
    assert beside["auc"].equals(beside["published_auc"])
    assert beside["relative_percent"].equals(beside["published_relative"])


def test_two_pretrainings_cannot_be_compared_with_the_paper():
    models = [model(a, i, modality="pathology") for a in "ab" for i in ("random", PRE, "weights:other")]
    frame = small_frame(models)
    with pytest.raises(DataError, match="several pre-trainings"):
        beside_published({2: tables.table2(frame)})


def test_paper_tables_equal_the_single_tables():
    models = [*RANDOM_D1, A_D2, model("a", "imagenet"), model("a", "imagenet", instance=1)]
    frame, options = _frame(models), {"study": small_study(models), "instances": "all"}
    found = tables.paper_tables(frame, reference_epsilon=0.04, **options)
    assert list(found) == [1, 2, 3]
    pd.testing.assert_frame_equal(found[1], tables.table1(frame, **options))
    pd.testing.assert_frame_equal(found[2], tables.table2(frame, reference_epsilon=0.04, **options))
    pd.testing.assert_frame_equal(found[3], tables.table3(frame, reference_epsilon=0.04, **options))
