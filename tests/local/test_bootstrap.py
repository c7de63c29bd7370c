"""Environments are made once, made anew when what they were made from changes, and never by two at a time."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local import bootstrap
from local.bootstrap import BootstrapError, Environment, Progress, ensure, exclusive, installed

ENVIRONMENT = Environment("venv", "a test", ("-e", "."), ("watched.txt",))


class Machine:
    """A checkout in a temporary folder; notes what would have been installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.created = 0
        self.installed: list[list[str]] = []
        self.broken = False
        (root / "watched.txt").write_text("one==1")

    def create(self, environment: Environment) -> None:
        self.created += 1
        time.sleep(0.1)  # long enough for a second start to see it half made
        environment.python.parent.mkdir(parents=True)
        environment.python.touch()

    def pip(self, _environment: Environment, target: list[str], _progress: Progress) -> None:
        if self.broken:
            raise BootstrapError("no network")
        self.installed.append(target)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "create", made.create)
    monkeypatch.setattr(bootstrap, "pip", made.pip)
    return made


def test_what_is_installed_is_left_alone(machine: Machine) -> None:
    ensure(ENVIRONMENT)
    ensure(ENVIRONMENT)
    assert machine.created == 1
    assert machine.installed == [["-e", "."]]


def test_other_requirements_are_installed_into_what_is_there(machine: Machine) -> None:
    ensure(ENVIRONMENT)
    (machine.root / "watched.txt").write_text("one==2")
    ensure(ENVIRONMENT)
    assert machine.created == 1
    assert len(machine.installed) == 2


def test_extras_are_added_and_kept(machine: Machine) -> None:
    ensure(ENVIRONMENT)
    ensure(ENVIRONMENT, ("dev",))
    ensure(ENVIRONMENT)
    (machine.root / "watched.txt").write_text("one==2")
    ensure(ENVIRONMENT)
    assert machine.installed == [["-e", "."], ["-e", ".[dev]"], ["-e", ".[dev]"]]


def test_what_the_project_always_needs_is_installed_with_or_without_more(machine: Machine) -> None:
    always = replace(ENVIRONMENT, extras=("server",))
    ensure(always)
    ensure(always)
    ensure(always, ("dev",))
    assert machine.installed == [["-e", ".[server]"], ["-e", ".[dev,server]"]]


def test_another_interpreter_gets_an_environment_of_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(ENVIRONMENT)
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    ensure(ENVIRONMENT)
    assert machine.created == 2


def test_a_checkout_that_moved_is_installed_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(ENVIRONMENT)
    moved = machine.root.with_name("moved")
    shutil.copytree(machine.root, moved)
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    ensure(ENVIRONMENT)
    assert machine.created == 2


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(machine: Machine) -> None:
    machine.broken = True
    with pytest.raises(BootstrapError):
        ensure(ENVIRONMENT)
    assert installed(ENVIRONMENT) == {}
    machine.broken = False
    ensure(ENVIRONMENT)
    assert machine.created == 2
    assert installed(ENVIRONMENT)["extras"] == []


def test_a_failed_change_of_requirements_leaves_nothing_that_counts_as_installed(machine: Machine) -> None:
    ensure(ENVIRONMENT)
    (machine.root / "watched.txt").write_text("one==2")
    machine.broken = True
    with pytest.raises(BootstrapError):
        ensure(ENVIRONMENT)
    machine.broken = False
    (machine.root / "watched.txt").write_text("one==1")
    ensure(ENVIRONMENT)
    assert len(machine.installed) == 2


def test_two_first_starts_take_turns(machine: Machine) -> None:
    together = threading.Barrier(2)

    def start() -> None:
        together.wait()
        with exclusive(machine.root):
            ensure(ENVIRONMENT)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.created == 1
    assert len(machine.installed) == 1


def test_a_start_that_has_to_wait_says_so(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    second = threading.Thread(target=lambda: exclusive(machine.root).__enter__())
    with exclusive(machine.root):
        second.start()
        while "waiting" not in capsys.readouterr().err:
            assert second.is_alive()
    second.join()


def test_an_old_python_hands_over_to_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "run"])
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "python3.12" else None)
    monkeypatch.setattr(os, "execv", lambda path, words: called.append((path, words)))
    with pytest.raises(BootstrapError):  # the real execv does not return
        bootstrap.require_python()
    assert called == [("/bin/python3.12", ["/bin/python3.12", "bootstrap.py", "run"])]


def test_an_old_python_alone_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(BootstrapError, match=r"Python 3\.11 or newer is needed"):
        bootstrap.require_python()


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["dance"]) == 2
    assert "run" in capsys.readouterr().err


def test_it_needs_the_standard_library_only_and_an_old_python_can_read_it() -> None:
    tree = ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
