"""Every code of a refusal is explained, on the page and on the command line, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from subnetctl import remedies
from tests.harness.laptop import ROOT


def explain(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "subnetctl.main", "explain", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", sorted(remedies.known()))
def test_an_explanation_is_two_sentences(code: str) -> None:
    cause, remedy = remedies.known()[code]
    assert cause.endswith(".")
    assert remedy.endswith(".")
    assert "\n" not in cause + remedy


def test_a_code_is_looked_up_on_the_command_line() -> None:
    told = explain("nonce_used", "--json")
    assert json.loads(told.stdout)["remedy"] == remedies.known()["nonce_used"][1]
    unknown = explain("nonce_usd")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "nonce_used" in unknown.stderr
