"""Write the paper's Tables 1 to 3 of a study into STUDY/results/tables/: the command `raygrid tables STUDY`."""

import sys

from raygrid.cli.commands import main

if __name__ == "__main__":
    main(["tables", *sys.argv[1:]])
