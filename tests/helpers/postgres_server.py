"""A PostgreSQL server of Debian's package (postgresql), in a folder of its own, for as long as a block lasts."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGED = Path("/usr/lib/postgresql")


@contextmanager
def postgres_server(port: int) -> Iterator[str]:
    """Start an empty server on the loopback interface and yield its URI for SQLAlchemy."""
    programs = max(PACKAGED.glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)
    assert programs is not None, "this test needs PostgreSQL: apt-get install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="raygrid-postgres-"))
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
    try:
        _run([programs / "initdb", "-D", folder / "data", "-U", "raygrid", "--auth=trust", "--no-sync"])
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run([programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start"])
        try:
            yield f"postgresql+psycopg2://raygrid@127.0.0.1:{port}/postgres"
        finally:
            _run([programs / "pg_ctl", "-D", folder / "data", "-m", "fast", "-w", "stop"])
    finally:
        shutil.rmtree(folder)


def _run(command: list[Path | str]) -> None:
    as_server = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # the server inherits what it is given: a pipe would never end
    subprocess.run([*as_server, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")
