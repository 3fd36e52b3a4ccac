"""Make the paper's Tables 1 to 3 again from a finished study folder: CSV, Markdown, LaTeX and plain text."""

import argparse

from raygrid.cli.commands import guarded
from raygrid.io.mirror import display_path_and_url
from raygrid.store.folder import open_study
from raygrid.study.publish import make_tables, write_tables


def main() -> None:
    """Write STUDY/results/tables/ and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    done = open_study(parser.parse_args().study)
    cells = make_tables(done.results.auc(), done.study)
    for path in write_tables(cells, done.results.path / "tables", phantom=done.record.phantom):
        print(display_path_and_url(path))


if __name__ == "__main__":
    guarded(main)
