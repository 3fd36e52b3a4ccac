"""`python -m raygrid.cli` is the `raygrid` command."""

from raygrid.cli.commands import main

main()
