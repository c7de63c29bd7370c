"""The reader of programs: tolerant, exact about what it drops, linear in time."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.pool import genome
from chalicelib.pool.genome import Limits, MalformedGenome, parse

GOOD = "# setup\ns10 = 0.01\n# predict\ns0 = dot(v0, v1)\n# learn\n"


def instruction(line: str) -> str | None:
    """What a line is read as, in predict beside one good line."""
    found = parse(f"s0 = s1\n{line}", 16, Limits(max_bad_ratio=1.0)).phases["predict"]
    return found[1] if len(found) > 1 else None


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("s1 = 0.5", "s1 = 0.5"),
        ("  S1=+5e-1  ", "s1 = 0.5"),
        ("s01 = s2", "s1 = s2"),
        ("v3[2] = -1", "v3[2] = -1.0"),
        ("s1 = s2 + s3", "s1 = s2 + s3"),
        ("v1=v2*s3", "v1 = v2 * s3"),
        ("s1 = gaussian(0, 1)", "s1 = gaussian(0.0, 1.0)"),
        ("s1 = DOT(v0,v1) # inline", "s1 = dot(v0, v1)"),
        ("dot v0, v1 -> s1", "s1 = dot(v0, v1)"),
        ("ADD s1 s2 -> s3", "s3 = s1 + s2"),
        ("const 0.1 -> s3", "s3 = 0.10000000149011612"),
        ("copy v1 -> v2", "v2 = v1"),
        ("v8[-1] = 0.3", None),
        ("v8[99] = 0.3", None),
        ("v8[26] = 0.3", None),
        ("s20 = 1", None),
        ("v10 = v1", None),
        ("m5 = m1", None),
        ("s1 = 1e999", None),
        ("s1 = nan", None),
        ("s1 = none", None),
        ("s1 = frobnicate(s2)", None),
        ("s1 = dot(v0)", None),
        ("s1 = __import__(os)", None),
        ("s1 = s2 + 1", None),
        ("NoOp()", None),
    ],
)
def test_a_line_is_read_as_the_reference_reader_does(line: str, canonical: str | None) -> None:
    assert instruction(line) == canonical


def test_both_styles_of_headers_switch_the_phase() -> None:
    first = parse(GOOD, 16)
    second = parse("# meta: vector_dim=16\ndef Setup():\n  s10 = 0.01\ndef Predict():\n  s0 = dot(v0, v1)\n", 16)

    assert first.fingerprint("t", 16) == second.fingerprint("t", 16)
    assert first.phases == {"setup": ["s10 = 0.009999999776482582"], "predict": ["s0 = dot(v0, v1)"], "learn": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no instruction"),
        ("hello\nworld", "no instruction"),
        ("# setup\ns1 = 0.5", "no instruction in predict"),
        ("s0 = s1\n" * 65, "too many instructions"),
        ("s0 = s1\nx\ny", "too many unreadable lines"),
        ("s0 = s1\x00", "control characters"),
        ("s0 = s1\x85", "control characters"),
        ("s0 = s1\n" + "#" * 301, "a line is longer than 300 characters"),
        ("s0 = s1\n" + "\n" * 600, "more than 600 lines"),
        ("s0 = s1\n" + "é" * 8200, "more than 16384 bytes"),
    ],
)
def test_what_is_no_program_is_told_in_a_few_words(text: str, reason: str) -> None:
    with pytest.raises(MalformedGenome, match=reason):
        parse(text, 16)


@pytest.mark.parametrize(
    "change", [str.upper, lambda text: text.replace("\n", "\r\n"), lambda text: text + "\n# end\n"]
)
def test_spelling_does_not_make_another_program(change: Callable[[str], str]) -> None:
    assert parse(change(GOOD), 16).fingerprint("t", 16) == parse(GOOD, 16).fingerprint("t", 16)


def test_a_number_the_problem_and_the_dimension_do() -> None:
    prints = {
        parse(text, 16).fingerprint(task, dim)
        for text, task, dim in itertools.product((GOOD, GOOD.replace("0.01", "0.02")), ("a", "b"), (16, 4))
    }
    assert len(prints) == 8


@given(st.text(max_size=2000))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_program_or_a_reason(text: str) -> None:
    try:
        found = parse(text, 16)
    except MalformedGenome:
        return
    assert 1 <= found.size <= genome.MAX_INSTRUCTIONS


@given(st.lists(st.sampled_from([*"svm0123456789=+-*/(),.e[] \n#:>", "dot", "->", "setup"]), max_size=400))
@settings(max_examples=300, deadline=None)
def test_text_that_looks_like_programs_never_surprises(parts: list[str]) -> None:
    try:
        parse("".join(parts), 16)
    except MalformedGenome:
        return


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    """Counted in steps of the interpreter, not in seconds: twice the text, little more than twice the steps."""

    def steps(text: str) -> int:
        count = 0

        def trace(*_: object) -> object:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            parse(text, 16, Limits(max_bad_ratio=1.0))
        except MalformedGenome:
            pass
        finally:
            sys.settrace(None)
        return count

    for line in ("s0 = " + "(" * 290, "s1 = " + "1" * 290, "s1 = " + "a" * 200, "v1[" + "9" * 200, "s0 = s1 + s2"):
        assert steps((line + "\n") * 50) <= 2.2 * steps((line + "\n") * 25)
