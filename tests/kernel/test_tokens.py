"""Bearer tokens: one form, closed when none is configured, compared in constant time."""

from __future__ import annotations

import pytest

from chalicelib.kernel import tokens


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer   abc", "abc"),
        ("BEARER a.b-c_d~e+f/=", "a.b-c_d~e+f/="),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer a b", None),
        (" Bearer a", None),
        ("Bearer a ", None),
        ("Basic abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_header_has_one_form(header: str | None, token: str | None) -> None:
    assert tokens.bearer(header) == token


@pytest.mark.parametrize(
    ("token", "accepted", "result"),
    [
        ("a", ["a"], True),
        ("b", ["a", "b"], True),
        ("c", ["a", "b"], False),
        ("a", [], False),
        ("", [""], False),
        (None, [""], False),
        (None, [], False),
        ("ü\udcff", ["ü\udcff"], True),
        ("A", ["a"], False),
    ],
)
def test_a_token_counts_only_where_one_is_configured(token: str | None, accepted: list[str], result: object) -> None:
    assert tokens.is_one_of(token, accepted) is result


def test_every_candidate_is_compared_in_constant_time_whatever_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def noting(_given: str, candidate: str) -> bool:
        compared.append(candidate)
        return True

    monkeypatch.setattr("hmac.compare_digest", noting)
    assert tokens.is_one_of("a", ["a", "b", "c"])
    assert compared == [tokens.digest(candidate) for candidate in "abc"]
