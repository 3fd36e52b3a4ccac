"""Draw effects of a study into STUDY/figures/: the command `raygrid figures STUDY effects`."""

import sys

from raygrid.cli.commands import main

if __name__ == "__main__":
    main(["figures", *sys.argv[1:], "effects"])
