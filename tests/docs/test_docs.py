"""What the documents say in so many words is what the program says."""

import re
import runpy
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from raygrid.attacks import to_unit_range
from raygrid.targets import check_target, open_target

ROOT = Path(__file__).parents[2]


def test_symptoms_are_quoted_as_the_program_words_them() -> None:
    rows = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    symptoms = [row.split(" | ")[0] for row in rows if row.startswith("| ")][1:]
    source = "\n".join(path.read_text() for path in (ROOT / "raygrid").rglob("*.py"))
    words = re.sub(r"\{[^{}]*\}", " ... ", re.sub(r'"\s*f?"', "", source))  # sentences are cut over lines
    quoted = [part.strip() for s in symptoms for quote in re.findall(r"`(.*?)`", s) for part in quote.split("...")]
    ours = [part.strip(" ,;") for part in quoted if len(part.split()) > 2]
    assert len(ours) > 8
    assert [part for part in ours if part not in words] == []


def test_links_between_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+?)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_snippets_name_what_they_import(page: str) -> None:
    for code in snippets(page):
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "-"]
        checked = subprocess.run(command, input=code, capture_output=True, text=True)
        assert not checked.returncode, checked.stdout


@pytest.mark.slow
def test_the_reference_is_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pdoc", "raygrid", "--docformat", "google", "-o", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert not built.returncode, built.stderr
    rooms = {path.stem for path in (ROOT / "raygrid").glob("[!_]*") if path.name != "py.typed"}
    assert {path.stem for path in (tmp_path / "raygrid").glob("*.html")} >= rooms
    assert "craft" in (tmp_path / "raygrid" / "attacks.html").read_text()


def test_the_page_of_benchmarks_is_that_of_the_result_files() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))
    assert made["PAGE"].read_text() == made["page"](), "run python benchmarks/page.py"


def snippets(page: str) -> list[str]:
    """Return the Python that a document shows."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_server_that_the_page_on_targets_shows_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[str, Any] = {}
    exec(snippets("docs/targets.md")[0], declared)
    spec = next(t for t in declared["TARGETS"] if t.kind == "http")
    lab = ModuleType("lab_models.pipeline")
    lab.scores = lambda images: images.mean(axis=(1, 2))[:, :1] / 255
    monkeypatch.setitem(sys.modules, "lab_models", ModuleType("lab_models"))
    monkeypatch.setitem(sys.modules, "lab_models.pipeline", lab)
    monkeypatch.setenv(spec.endpoint.token_variable, "token")
    served: dict[str, Any] = {"__name__": "serve"}
    exec(snippets("docs/targets.md")[1], served)
    served["Handler"].log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), served["Handler"]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            local = replace(spec, source=f"http://127.0.0.1:{server.server_address[1]}")
            target = open_target(local, labels=("tumour",), channels=3, image_size=9, answers_dir=tmp_path)
            images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
            check_target(local, target, images)
            p = images.mean(axis=(1, 2))[:, :1] / 255
            assert target(to_unit_range(images)).numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-5)
        finally:
            server.shutdown()
            thread.join()
