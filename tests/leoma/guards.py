"""The guards of Leoma's signed requests, for the mutation run."""

from __future__ import annotations

from tests.harness.mutation import Guard


def leoma(module: str, name: str, guard: str, without: str, tests: str = "auth") -> Guard:
    return Guard(name, f"chalicelib/leoma/{module}.py", guard, without, f"tests/leoma/test_{tests}.py")


GUARDS = [
    leoma("domain", "window", "if abs(int(now) - int(timestamp)) > window:", "if False:"),
    leoma("domain", "digits alone", "if not _TIMESTAMP.fullmatch(timestamp):", "if not timestamp:"),
    leoma("domain", "blacklist", "    if blacklisted:\n", "    if False:\n"),
    leoma("domain", "registered", "if hotkey not in admins and not registered:", "if False:"),
    leoma("domain", "admin", "    if hotkey not in admins:\n", "    if False:\n"),
    leoma("domain", "the body is signed", "hashlib.sha256(body).hexdigest()", "hashlib.sha256(b'').hexdigest()"),
]
