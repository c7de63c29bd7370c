"""Help that a stranger can start from: every command has words and an example, and what pages name exists."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Any

import pytest

from subnetctl import examples, main, wallets
from tests.docs.commands import commands
from tests.harness.laptop import ROOT

PAGES = [ROOT / name for name in ("README.md", "infra/README.md", "local/wallets/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
WIDEST = 26
EVERYWHERE = {"--json", "--json-output", "--help"}


@functools.cache
def root() -> Any:
    return main.tree()


def checked(words: list[str]) -> None:
    """The words name a command, and every option in them is one of its own."""
    command, rest = root(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no subnetctl {' '.join(words)}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("-") and not word.lstrip("-").isdigit()}
    assert given <= known | EVERYWHERE, f"subnetctl {' '.join(words)}: {given - known}"


def test_every_command_says_what_it_does_and_shows_how() -> None:
    found = dict(examples.leaves(root()))
    assert set(found) == set(examples.EXAMPLES)
    for words, command in found.items():
        assert (command.help or "").strip().endswith("."), words
        assert command.epilog, words
        for parameter in command.params:
            names = ",".join((*parameter.opts, *parameter.secondary_opts))
            assert getattr(parameter, "help", None), f"{words}: {names} has no help"
            assert len(names) <= WIDEST, f"{words}: {names} leaves no room on a terminal of 80 columns"


def test_options_are_taken_by_the_names_that_btcli_gives_them() -> None:
    known = {option for command in dict(examples.leaves(root())).values() for p in command.params for option in p.opts}
    assert set(wallets.OTHER_NAMES.values()) <= known
    assert not set(wallets.OTHER_NAMES) & known
    assert wallets.named_alike("--wallet.name=miner") == "--wallet-name=miner"
    assert wallets.named_alike("--wallet_hotkey") == "--hotkey"
    assert wallets.named_alike("wallet.name") == "wallet.name"


@pytest.mark.parametrize("words", sorted(examples.EXAMPLES))
def test_an_example_is_a_call_of_its_command(words: str) -> None:
    example = shlex.split(examples.EXAMPLES[words])
    assert example[: len(words.split())] == words.split()
    checked(example)
    command = dict(examples.leaves(root()))[words]
    needed = {parameter.opts[0] for parameter in command.params if parameter.required and parameter.opts[0][0] == "-"}
    assert needed <= set(example)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_names_exist_with_their_options(page: Path) -> None:
    for words in commands(page, "subnetctl"):
        checked([word for word in words if word not in {"…", "X"} and not word.startswith("$")])
