"""The command line: the `raygrid` command and the parser that an experiment's file uses."""
