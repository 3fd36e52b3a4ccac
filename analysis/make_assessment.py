"""Make the pages about a study's own targets again from a finished study folder: results/assessment-*.html."""

import argparse

from raygrid.analysis.results import StudyResults
from raygrid.cli.exit_status import guarded
from raygrid.errors import SpecError
from raygrid.io.mirror import display_path_and_url
from raygrid.store.folder import open_study
from raygrid.study.publish import write_target_pages


def main() -> None:
    """Write the pages of the study folder named on the command line, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    location = parser.parse_args().study
    done = open_study(location)
    if not done.study.targets:
        raise SpecError(f"{location}: the study names no targets of its own (StudySpec.targets): no page to make")
    for path in write_target_pages(StudyResults(done)):
        print(display_path_and_url(path))


if __name__ == "__main__":
    guarded(main)
