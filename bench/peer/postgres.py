"""A PostgreSQL of its own for a peer: on a socket in a folder that goes when it stops."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

PG_CTL = Path(importlib.util.find_spec("pgserver").origin).parent / "pginstall" / "bin" / "pg_ctl"
OWNER = "bench"


@contextmanager
def running():
    """The URL of a fresh database; durability is as it comes."""
    folder = tempfile.mkdtemp(prefix="bench-postgres-")
    if os.geteuid() == 0:  # which it refuses to run as
        shutil.chown(folder, "nobody")
    try:
        control(folder, "init", "-o", f"-A trust -E UTF8 -U {OWNER}")
        control(folder, "start", "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -c listen_addresses=''")
        try:
            yield f"postgresql+asyncpg://{OWNER}@/postgres?host={folder}"
        finally:
            control(folder, "stop", "-m", "fast")
    finally:
        shutil.rmtree(folder)


def control(folder, *arguments):
    owner = "nobody" if os.geteuid() == 0 else None
    command = [PG_CTL, *arguments, "-D", f"{folder}/data"]
    subprocess.run(command, check=True, user=owner, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
