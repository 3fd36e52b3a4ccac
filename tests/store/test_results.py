"""The results of a study as frames: written whole, read back equal, and errors that name the file and the command."""

from pathlib import Path

import pandas as pd
import pytest
from auc_frames import model, small_frame

from raygrid.errors import StoreError
from raygrid.store.results import Results

FRAME = pd.DataFrame({"surrogate": ["a", "b"], "epsilon": [0.02, 0.04], "num_images": [20, 21]})


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.mark.parametrize("name", ["decisions", "visibility"])
def test_a_frame_reads_back_as_it_was_written(results: Results, name: str) -> None:
    assert not results.has(name)
    path = results.write(name, FRAME)
    assert path == results.path / f"{name}.parquet"
    assert results.has(name)
    pd.testing.assert_frame_equal(results.read(name), FRAME)


def test_each_frame_has_a_method(results: Results) -> None:
    auc = small_frame([model("a"), model("b")])
    results.write("auc", auc)
    results.write("decisions", FRAME)
    results.write("visibility", FRAME.iloc[:1])
    pd.testing.assert_frame_equal(results.auc(), auc)
    pd.testing.assert_frame_equal(results.decisions(), FRAME)
    pd.testing.assert_frame_equal(results.perceptibility(), FRAME.iloc[:1])


def test_a_frame_that_is_written_again_is_read_again(results: Results) -> None:
    results.write("decisions", FRAME)
    assert len(results.decisions()) == 2
    results.write("decisions", FRAME.iloc[:1])
    assert len(results.decisions()) == 1
    assert [path.name for path in results.path.iterdir()] == ["decisions.parquet"]  # no temporary file stays


def test_an_absent_frame_is_named_with_the_command_that_writes_it(results: Results) -> None:
    with pytest.raises(StoreError) as caught:
        results.auc()
    assert str(results.path / "auc.parquet") in str(caught.value)
    assert str(caught.value).endswith(f"raygrid report {results.path.parent}")


@pytest.mark.parametrize("content", [b"", b"half a file", b"PAR1 and more PAR1"])
def test_a_damaged_frame_is_named_with_the_command_that_writes_it(results: Results, content: bytes) -> None:
    results.path.mkdir()
    (results.path / "auc.parquet").write_bytes(content)
    with pytest.raises(StoreError, match=r"auc\.parquet cannot be read") as caught:
        results.auc()
    assert str(caught.value).endswith(f"raygrid report {results.path.parent}")


def test_a_notebook_shows_the_files(results: Results) -> None:
    assert "nothing yet" in results._repr_html_()
    results.write("auc", FRAME)
    (results.path / "tables").mkdir()
    (results.path / "tables" / "<b>1.md").write_text("")
    html = results._repr_html_()
    assert "<li><code>auc.parquet</code></li>" in html
    assert "<li><code>tables/&lt;b&gt;1.md</code></li>" in html
    assert "nothing yet" not in html
