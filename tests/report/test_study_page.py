"""The report is one page that loads nothing, says what is missing and what is void, and reads without pictures."""

import base64
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from auc_frames import set_row, small_study, without
from report_pages import MODELS, example_frame, page_results, pictured, render

from raygrid.analysis import results as results_module
from raygrid.analysis import tables
from raygrid.analysis.effects import all_effects
from raygrid.report.study_page import render_report
from raygrid.report.table_text import PHANTOM_NOTICE
from raygrid.study.publish import write_tables


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return pictured()


def test_the_page_loads_nothing_from_outside(page):
    parsed = _Page(page)
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert tag != "script" or not attributes  # written into the page, it sorts tables
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value[:50])
    assert "http" not in re.sub(r"data:image/[^\"]*", "", page)
    assert "@import" not in page
    assert "url(" not in page
    for attributes in parsed.all("img"):
        if "svg" in attributes["src"][:20]:
            drawing = base64.b64decode(attributes["src"].split(",", 1)[1]).decode()
            assert not re.search(r'(href|src)="(?!#|data:)', drawing)


def test_every_figure_is_there_and_has_a_text_for_those_who_cannot_see_it(page):
    pictures = _Page(page).all("img")
    # effects, visibility, examples, curves, heat maps of two attacks, clean, learning
    assert len(pictures) == 1 + 1 + 1 + 1 + 2 + 1 + 1
    assert all(len(attributes.get("alt") or "") > 20 for attributes in pictures)


def test_headings_are_in_order_and_links_lead_somewhere(page):
    parsed = _Page(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {attributes["href"][1:] for attributes in parsed.all("a")} <= ids
    assert all("scope" in attributes for attributes in parsed.all("th"))


def test_the_papers_claims_stand_with_their_verdicts_and_the_published_ones(page):
    text = " ".join(_Page(page).text.split())
    assert "C1AUC falls from the smallest to the largest ε, under both attackssupportedpublished: –" in text
    assert "C1eyeFGSM: AUC at ε = 0.02 less AUC at ε = 0.040.200[" in text  # 0.4 and 0.2 were set


def test_the_operational_section_shows_decisions_and_perceptibility(page):
    parsed = _Page(page)
    text = " ".join(parsed.text.split())
    assert "12%" in text
    assert "0.987" in text
    assert "The best surrogate against each target" in text
    assert any("sortable" in (attributes.get("class") or "") for attributes in parsed.all("table"))


def test_effects_stand_on_both_scales_and_say_what_they_are_conditional_on(page):
    effects = all_effects(example_frame())
    text = " ".join(_Page(page).text.split())
    by_epsilon = effects[(effects["factor"] == "perturbation degree, ε") & (effects["outcome"] == "relative")].iloc[0]
    points, low, high = (100 * by_epsilon[name] for name in ("effect", "low", "high"))
    assert f"perturbation degree, ε0.02 → 0.04{points:+.1f}[{low:+.1f}, {high:+.1f}]" in text
    assert "the intervals are conditional on these models and exclude" in text  # two trainings of each kind


def test_tables_show_numbers_with_intervals(page):
    text = " ".join(_Page(page).text.split())
    for title in ("Table 1: perturbation degree", "Table 2: pre-training", "Table 3: disparity"):
        assert title in text
    assert re.search(r"0\.40 ?\[0\.\d\d, 0\.\d\d\]", text)
    assert re.search(r"0\.40 \(50%\)", text)
    titles = [a["title"] for a in _Page(page).all("td") if "title" in a]
    assert any("4 of 4 pairings" in t and "40 images of 2 patients" in t and "signature" in t for t in titles)


def test_every_pairing_stands_in_a_grid_that_leads_to_the_cards(page):
    parsed = _Page(page)
    anchors = {attributes["id"] for _, attributes in parsed.tags if attributes.get("id")}
    links = [a["href"] for a in parsed.all("a") if (a["href"] or "").startswith("#card-")]
    assert links  # both edges of each grid, and the table of models
    assert {link.removeprefix("#") for link in links} <= anchors
    titles = [a["title"] for a in parsed.all("td") if "→" in (a.get("title") or "")]
    assert len(titles) == 2 * len(MODELS) ** 2  # two attacks at the reference epsilon
    pair = f"{MODELS[1].name} → {MODELS[0].name}: AUC 0.400, 95% interval 0.850 to 0.950; 112.5% of the clean 0.800"
    assert titles.count(pair) == 2
    assert "Parameters1,234" in "".join(parsed.text.split())


def test_a_pairing_that_is_missing_is_a_cross_in_the_grid():
    text = render(without(example_frame(), MODELS[1], MODELS[0]))
    assert text.count('title="missing">×') == 2


def test_summary_says_in_words_what_the_tables_say(page):
    text = " ".join(_Page(page).text.split())
    assert "4 models in 1 modality; 16" in text
    assert "16 pairings of surrogate and target, 4 of them white-box" in text
    assert "mean AUC from 0.80 to 0.40 at ε = 0.02 and 0.20 at ε = 0.04" in text
    # 12 black-box pairings: 4 at 0.4, 8 untouched at 0.9; white-box all at 0.9
    assert "eye 0.90 against 0.73" in text
    assert "does more damage" not in text
    assert "No pairing is missing" in text


def test_provenance_is_shown(page):
    text = _Page(page).text
    for fact in (
        "c0ffee" * 6,
        "9.9",
        "abcdabcd",
        "1,234 images",
        "1.23%",
        "77 s",
        f"zoo/eye/{MODELS[0].name}-",
        "FGSM",
        "eye: 2 of 9 test images are <also> in development",
    ):
        assert fact in text


def test_phantoms_have_a_banner_and_real_images_have_none(page):
    assert 'id="phantom"' in page
    assert page.count(PHANTOM_NOTICE) > 8
    real = render(phantom=False)
    assert 'id="phantom"' not in real
    assert PHANTOM_NOTICE not in real


def test_models_that_did_not_learn_void_the_page(page):
    assert 'id="void"' not in page
    frame = example_frame()
    set_row(frame, None, MODELS[2], auc=0.5, auc_low=0.4)
    void = render(frame)
    assert 'id="void"' in void
    assert f"eye/{MODELS[2].name}" in void


def test_missing_pairings_are_listed():
    text = " ".join(_Page(render(without(example_frame(), MODELS[1], MODELS[0]))).text.split())
    assert "1 pairing is incomplete" in text
    assert "8 of 8" in text
    assert "missing (3 of 4)" in text
    assert "cannot be compared" in text
    assert "no summary of the damage" in text


def test_names_are_escaped():
    text = render(examples={"<script>alert(1)</script>": {"clean": np.zeros((2, 2, 3))}})
    assert "<script>alert" not in text


def test_a_study_with_clean_scores_only_still_has_a_report():
    frame = example_frame()
    text = _Page(render(frame[frame["condition"] == "clean"])).text
    assert "0.80" in text
    assert "missing (0 of 4)" in text


def test_of_clean_scores_only_there_are_no_effects():
    frame = example_frame()
    assert 'id="effects"' in render(frame)
    assert 'id="effects"' not in render(frame[frame["condition"] == "clean"])


def test_equal_inputs_give_equal_pages():
    assert render() == render()


def test_a_number_that_rounds_to_zero_has_no_sign(page):
    assert ">0.000<" in page
    assert ">0.0<" in page  # an effect
    assert not re.search(r"[-+]0\.0+\b", page)


def test_tables_and_claims_are_computed_once_for_the_files_and_the_page(monkeypatch):
    calls = []

    def counted(function):
        def call(*arguments, **options):
            calls.append(function.__name__)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(tables, "paper_tables", counted(tables.paper_tables))
    monkeypatch.setattr(results_module, "judge_claims", counted(results_module.judge_claims))
    monkeypatch.setattr(results_module, "all_effects", counted(results_module.all_effects))
    with page_results(small_study(MODELS), auc=example_frame(), trained=MODELS[0], phantom=True) as results:
        paths = write_tables(results)
        page = render_report(results, {})
        assert [path.name for path in paths if path.suffix == ".csv"] == ["table1.csv", "table2.csv", "table3.csv"]
        assert "0.40 (50%)" in paths[4].with_suffix(".txt").read_text()
    assert "0.40 (50%)" in page
    assert sorted(calls) == ["all_effects", "judge_claims", "paper_tables"]
