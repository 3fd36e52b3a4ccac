"""Make the pages about a study's own targets again from a finished study folder: results/assessment-*.html."""

import argparse

from raygrid.cli.commands import guarded
from raygrid.errors import SpecError
from raygrid.io.mirror import whereabouts
from raygrid.store.finished import open_finished
from raygrid.study.publish import write_assessments


def main() -> None:
    """Write the pages of the study folder named on the command line, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    location = parser.parse_args().study
    done = open_finished(location)
    if not done.study.targets:
        raise SpecError(f"{location}: the study names no targets of its own (StudySpec.targets): no page to make")
    for one in write_assessments(done.zoo, *map(done.frame, ("auc", "decisions", "visibility"))):
        print(whereabouts(done.results / one["page"]))


if __name__ == "__main__":
    guarded(main)
