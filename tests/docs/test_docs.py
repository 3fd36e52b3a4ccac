"""The documents agree with the program, with each other, and with the rules of style."""

import re
import runpy
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import raygrid as rg
from raygrid.data.datasets.medmnist_classes import CLASSES
from raygrid.data.images.scale import to_unit_range
from raygrid.targets import check_target, open_target

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
API = {
    *("StudySpec", "ModalitySpec", "DatasetSpec", "SplitSpec", "Recipe", "ModelSpec", "EnsembleSpec", "model_grid"),
    *("PRETRAINED_ON", "AttackSpec", "TransferSpec", "attack", "attack_grid", "run_class_attack", "TargetSpec"),
    *("InputSpec", "AnswerSpec", "EndpointSpec", "Margins", "main", "run_study", "RunOptions", "plan_study"),
    *("open_study", "StudyFolder", "RaygridError", "__version__"),
}
MOST_WHATS = 1.5  # per 1,000 words; the docstrings of httpx and foolbox have fewer


def snippets(page: str) -> list[str]:
    """Return the Python that a document shows."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


PAGES_WITH_PYTHON = [page for page in PAGES if snippets(page)]


def test_the_meanings_of_medmnists_classes_are_those_of_the_code() -> None:
    text = (DOCS / "how-to" / "data-sets.md").read_text()
    rows = dict(re.findall(r"^\| (\w+MNIST) \| (.*) \|$", text, re.MULTILINE))
    assert rows == {name: "; ".join(f"{i} {m}" for i, m in enumerate(found)) for name, found in CLASSES.items()}


def prose(page: str) -> str:
    """Return a document without its code."""
    return re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: str) -> Iterator[tuple[Path, str]]:
    """Yield (file, anchor) of each link in a document to another one, or to itself."""
    text = re.sub(r"\s+", " ", prose(page))
    for path, anchor in re.findall(r"\]\(([^)#: ]*)(?:#([^) ]+))?\)", text):
        yield ((ROOT / page).parent / path).resolve() if path else ROOT / page, anchor


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.relative_to(ROOT).as_posix()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading).strip("-") for heading in plain}


def test_symptoms_are_quoted_as_the_program_words_them() -> None:
    rows = (DOCS / "how-to" / "troubleshooting.md").read_text().splitlines()
    symptoms = [row.split(" | ")[0] for row in rows if row.startswith("| ") and not row.startswith("| symptom")]
    source = "\n".join(path.read_text() for path in (ROOT / "raygrid").rglob("*.py"))
    words = re.sub(r"\{[^{}]*\}", " ... ", re.sub(r'"\s*f?"', "", source))  # sentences are cut over lines
    quoted = [part.strip() for s in symptoms for quote in re.findall(r"`(.*?)`", s) for part in quote.split("...")]
    ours = [part.strip(" ,;") for part in quoted if len(part.split()) > 2]
    assert len(ours) > 8
    assert [part for part in ours if part not in words] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(page):
        assert path.exists(), f"{page}: {path}"
        assert not anchor or anchor in anchors(path), f"{page}: {path.name}#{anchor}"


def test_every_page_is_in_the_navigation_and_reachable_from_the_index() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(pages)
    seen, ahead = set[Path](), [DOCS / "index.md"]
    while ahead:
        path = ahead.pop()
        if path not in seen and path.suffix == ".md":
            seen.add(path)
            ahead += [there for there, _ in links(path.relative_to(ROOT).as_posix())]
    assert {path.relative_to(DOCS).as_posix() for path in seen} == pages


def test_the_code_names_documents_that_exist() -> None:
    folders = ("raygrid", "experiments", "analysis", "benchmarks")
    files = [*(path for folder in folders for path in (ROOT / folder).rglob("*.py")), ROOT / "cluster.yaml"]
    named = {(path.name, name) for path in files for name in re.findall(r"docs/[\w/-]+\.(?:md|yaml)", path.read_text())}
    assert len(named) > 15
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).exists()] == []


def test_the_readme_leads_to_the_index() -> None:
    assert DOCS / "index.md" in {path for path, _ in links("README.md")}


def test_the_site_is_built_without_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert not built.returncode, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    for path in pages:
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?([^\"\s>]+)", path.read_text())
        loaded += re.findall(r"<link\b[^>]*\brel=\"?(?:stylesheet|preconnect)[^>]*", path.read_text())
        assert loaded
        assert [address for address in loaded if "//" in address] == [], path.name


def test_fragments_make_a_changelog() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next", "--date", "2026-12-01"]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert not built.returncode, built.stderr
    assert "## next (2026-12-01)" in built.stdout
    types = {
        kind["directory"] for kind in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    }
    for path in (ROOT / "changelog.d").iterdir():
        assert path.name == "README.md" or path.name.split(".")[-2] in types, path.name


def test_the_changelog_knows_the_version() -> None:
    assert re.search(
        rf"^## {re.escape(rg.__version__)} \(\d{{4}}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == rg.__version__


def test_snippets_import_the_names_that_they_use(tmp_path: Path) -> None:
    for page in PAGES_WITH_PYTHON:
        for k, code in enumerate(snippets(page)):
            (tmp_path / f"{page.replace('/', '-')}-{k}.py").write_text(code)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", str(tmp_path)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert not checked.returncode, checked.stdout


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_declarations_are_accepted(page: str) -> None:
    for code in snippets(page):
        unknown = set(re.findall(r"\brg\.(\w+)", code)) - API
        assert not unknown, f"{page}: {unknown}"
        imported = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
        if imported == ["raygrid"] and "open_study" not in code:  # needs neither a study nor another package
            exec(code, {})


def test_the_reference_has_every_public_name() -> None:
    text = prose("docs/reference/api.md")
    sections = re.split(r"^### `?(\w+)`?$", text, flags=re.MULTILINE)
    described = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(described) == API
    assert [name for name, text in described.items() if len(text.split("\n## ")[0].split()) < 8] == []


def test_the_public_names_are_those_of_the_reference() -> None:
    assert set(rg.__all__) == API


def test_the_design_page_is_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["raygrid"])
    text = prose("docs/explanation/design.md")
    table = text.split("\n## Packages\n")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", row.split(" | ")[0]) for row in table.splitlines() if row.startswith("| `")]
    assert rows == [layer.split(" | ") for layer in layers]


def test_the_design_page_names_files_that_exist() -> None:
    table = prose("docs/explanation/design.md").split("\n## Where to find it, where to add it\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", table)) - {"raygrid/"}
    assert len(named) > 15
    assert sorted(name for name in named if not (ROOT / "raygrid" / name).exists()) == []


def test_design_and_glossary_define_a_word_alike() -> None:
    words = prose("docs/explanation/design.md").split("\n## Words\n")[1].split("\n## ")[0]
    rows = [row for row in words.splitlines() if row.startswith("| ")]
    assert len(rows) > 10
    assert [row for row in rows if row not in prose("docs/reference/glossary.md").splitlines()] == []


def test_the_pages_name_things_instead_of_saying_what() -> None:
    words = [word.lower() for page in PAGES for word in re.findall(r"[A-Za-z']+", prose(page))]
    assert 1000 * words.count("what") / len(words) < MOST_WHATS


def test_lines_fit_an_editor() -> None:
    generated = "docs/explanation/benchmarks.md"
    for page in PAGES:
        lines = prose(page).splitlines() if page != generated else []
        assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == [], page


@pytest.mark.slow
def test_the_reference_is_built(tmp_path: Path) -> None:
    recipe = subprocess.run(["make", "-n", "api"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (arguments,) = re.findall(r"/pdoc (raygrid .*) -o build/api", recipe)
    command = [sys.executable, "-m", "pdoc", *arguments.split(), "-o", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not built.returncode, built.stderr
    packages = {path.stem for path in (ROOT / "raygrid").glob("[!_]*") if path.name != "py.typed"}
    assert {path.stem for path in (tmp_path / "raygrid").glob("*.html")} >= packages
    page = (tmp_path / "raygrid" / "attacks" / "crafter.html").read_text()
    assert re.search(r"def\s+craft\b", re.sub(r"<[^>]+>", "", page))


def test_the_page_of_benchmarks_is_that_of_the_result_files() -> None:
    for name in ("page.py", "plugin_page.py"):
        made = runpy.run_path(str(ROOT / "benchmarks" / name))
        assert made["PAGE"].read_text() == made["page"](), f"run python benchmarks/{name}"


def test_the_server_that_the_page_on_endpoints_shows_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[str, Any] = {}
    exec(snippets("docs/how-to/targets.md")[0], declared)
    target_spec = next(t for t in declared["TARGETS"] if t.kind == "http")
    lab = ModuleType("lab_models.pipeline")
    lab.scores = lambda images: images.mean(axis=(1, 2))[:, :1] / 255
    monkeypatch.setitem(sys.modules, "lab_models", ModuleType("lab_models"))
    monkeypatch.setitem(sys.modules, "lab_models.pipeline", lab)
    monkeypatch.setenv(target_spec.endpoint.token_variable, "token")
    served: dict[str, Any] = {"__name__": "serve"}
    exec(snippets("docs/how-to/endpoints.md")[0], served)
    served["Handler"].log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), served["Handler"]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            local = replace(target_spec, source=f"http://127.0.0.1:{server.server_address[1]}")
            target = open_target(local, labels=("tumour",), channels=3, image_size=9, answers_dir=tmp_path)
            images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
            check_target(local, target, images)
            p = images.mean(axis=(1, 2))[:, :1] / 255
            assert target(to_unit_range(images)).numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-5)
        finally:
            server.shutdown()
            thread.join()
