"""What the documents say in so many words is what the program says."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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


@pytest.mark.slow
def test_the_reference_is_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pdoc", "raygrid", "--docformat", "google", "-o", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert not built.returncode, built.stderr
    rooms = {path.stem for path in (ROOT / "raygrid").glob("*.py")} - {"__init__"}
    assert {path.stem for path in (tmp_path / "raygrid").glob("*.html")} >= rooms
    assert "craft" in (tmp_path / "raygrid" / "attacks.html").read_text()


def test_the_page_of_benchmarks_is_that_of_the_result_files() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))
    assert made["PAGE"].read_text() == made["page"](), "run python benchmarks/page.py"
