"""The first thing inside the sandbox: become nobody, accept the limits, then turn into the worker."""

import os
import resource
import sys
from pathlib import Path

memory, processes, seconds, file_bytes, nobody, inside, outside, site, project = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(nobody))
    os.setuid(int(nobody))
for limit, value in (
    (resource.RLIMIT_NPROC, processes),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_FSIZE, file_bytes),
    (resource.RLIMIT_CORE, "0"),
    (resource.RLIMIT_NOFILE, "256"),
):
    resource.setrlimit(limit, (int(value), int(value)))
worker = str(Path(__file__).resolve().parent / "worker.py")
os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", worker, inside, outside, site, project])  # noqa: S606
