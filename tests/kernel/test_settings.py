"""Knobs: where they are looked up, what they may hold, and the one line that stops the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.kernel import settings
from chalicelib.kernel.settings import KernelSettings, SettingError, Settings, knob, parse_env_file

Configure = Callable[..., None]


@pytest.fixture
def kinds() -> Iterator[type[Any]]:
    registered = list(Settings.registry)

    class Kinds(Settings, system="shop"):
        text: str = knob("plain", "a text")
        mode: str = knob("a", "one of two", choices=("a", "b"))
        flag: bool = knob(False, "a switch")
        count: int = knob(3, "a number", minimum=1, maximum=10)
        share: float = knob(0.5, "a share", minimum=0, maximum=1)
        items: tuple[str, ...] = knob(("x",), "a list")
        maybe: int | None = knob(None, "a number or nothing", minimum=1)
        own: str = knob("", "read with its prefix only", prefixed_only=True)

    yield Kinds
    Settings.registry[:] = registered


def test_the_stronger_name_and_the_stronger_source_win(kinds: type[Any]) -> None:
    order = [
        ({"SHOP_TEXT": "1", "TEXT": "2"}, {"SHOP_TEXT": "3", "TEXT": "4"}, "1"),
        ({"TEXT": "2"}, {"SHOP_TEXT": "3", "TEXT": "4"}, "2"),
        ({}, {"SHOP_TEXT": "3", "TEXT": "4"}, "3"),
        ({}, {"TEXT": "4"}, "4"),
        ({}, {}, "plain"),
        ({"SHOP_TEXT": ""}, {"TEXT": "4"}, ""),
        ({"TEXT": ""}, {"SHOP_TEXT": "3"}, ""),
    ]
    assert [kinds.load(environment, file).text for environment, file, _ in order] == [want for *_, want in order]


def test_a_prefixed_knob_ignores_the_plain_name(kinds: type[Any]) -> None:
    assert kinds.load({"OWN": "no"}, {"OWN": "no"}).own == ""
    assert kinds.load({"SHOP_OWN": "yes"}).own == "yes"


def test_unknown_variables_are_ignored(kinds: type[Any]) -> None:
    assert kinds.load({"SHOP_NO_SUCH_KNOB": "x", "HOME": "/"}).text == "plain"


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1"])
def test_yes(kinds: type[Any], text: str) -> None:
    assert kinds.load({"FLAG": text}).flag is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0"])
def test_no(kinds: type[Any], text: str) -> None:
    assert kinds.load({"FLAG": text}).flag is False


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", ()),
        ("a", ("a",)),
        (" a , b,,c ", ("a", "b", "c")),
        ('["a,b", "c"]', ("a,b", "c")),
        ("[]", ()),
        (",", ()),
    ],
)
def test_a_list_is_commas_or_json_and_empty_is_nobody(kinds: type[Any], text: str, items: tuple[str, ...]) -> None:
    assert kinds.load({"ITEMS": text}).items == items


@pytest.mark.parametrize(("text", "value"), [("", None), ("4", 4)])
def test_nothing_is_a_value_where_there_may_be_none(kinds: type[Any], text: str, value: object) -> None:
    assert kinds.load({"MAYBE": text}).maybe == value


@pytest.mark.parametrize(
    ("variable", "held", "must_be"),
    [
        ("FLAG", "yes", "true, false, 1 or 0"),
        ("FLAG", "", "true, false, 1 or 0"),
        ("SHOP_COUNT", "three", "a whole number of at least 1 and at most 10"),
        ("COUNT", "", "a whole number of at least 1 and at most 10"),
        ("COUNT", "1.5", "a whole number of at least 1 and at most 10"),
        ("COUNT", "0", "a number of at least 1 and at most 10"),
        ("COUNT", "11", "a number of at least 1 and at most 10"),
        ("SHARE", "nan", "a number of at least 0 and at most 1"),
        ("SHARE", "inf", "a number of at least 0 and at most 1"),
        ("SHARE", "1.01", "a number of at least 0 and at most 1"),
        ("MODE", "c", "one of a, b"),
        ("MODE", "", "one of a, b"),
        ("ITEMS", "[1]", "a comma list or a JSON list of strings"),
        ("ITEMS", "[", "a comma list or a JSON list of strings"),
        ("MAYBE", "0", "a number of at least 1"),
    ],
)
def test_an_unusable_value_is_one_line_that_says_all(kinds: type[Any], variable: str, held: str, must_be: str) -> None:
    with pytest.raises(SettingError) as told:
        kinds.load({variable: held})
    assert str(told.value) == f"{variable} holds {held!r}: it must be {must_be}"


def test_an_env_file_is_names_values_quotes_and_comments() -> None:
    text = "# comment\n A = 1 \nexport B='two words'\nC=\"x\"\nD=\nE='\nno line\nF=a=b\n#G=1\n\n"
    assert parse_env_file(text) == {"A": "1", "B": "two words", "C": "x", "D": "", "E": "'", "F": "a=b"}


def test_the_file_fills_what_the_environment_leaves_unset(tmp_path: Path, configure: Configure) -> None:
    file = tmp_path / "my.env"
    file.write_text("STAGE=from-file\nCHAIN_SYNC_SECONDS=30\n")
    configure(ENV_FILE=str(file), CHAIN_SYNC_SECONDS="40", STAGE="")
    assert (KernelSettings.current().stage, KernelSettings.current().chain_sync_seconds) == ("", 40)


def test_no_file_is_no_trouble(configure: Configure) -> None:
    configure(ENV_FILE="/no/such/file")
    assert settings.env_file() == {}
    assert KernelSettings.current().chain_sync_seconds == 12


def test_settings_are_read_once_until_they_are_forgotten(monkeypatch: pytest.MonkeyPatch, configure: Configure) -> None:
    configure(CHAIN_SYNC_SECONDS="40")
    first = KernelSettings.current()
    monkeypatch.setenv("CHAIN_SYNC_SECONDS", "50")
    assert KernelSettings.current() is first
    settings.forget_all()
    assert KernelSettings.current().chain_sync_seconds == 50


def test_a_variable_that_is_set_to_nothing_is_set(kinds: type[Any], configure: Configure) -> None:
    assert not kinds.is_set("text")
    configure(SHOP_TEXT="")
    assert kinds.is_set("text")
