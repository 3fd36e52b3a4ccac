"""Draw heat maps of a study into STUDY/figures/: the command `raygrid figures STUDY heat-maps`."""

import sys

from raygrid.cli.commands import main

if __name__ == "__main__":
    main(["figures", *sys.argv[1:], "heat-maps"])
