"""Artifacts: YAML under hard limits, each rule of the policy in its own words, templates never rendered."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.bitrecs import domain, domain_artifact, domain_policy
from chalicelib.bitrecs.contracts import BitrecsSettings
from chalicelib.kernel import keys
from chalicelib.kernel.errors import Malformed
from tests.bitrecs.world import artifact
from tests.harness.scale import scaled
from tests.harness.wallets import wallet

HOTKEY = wallet("miner").hotkey
LIMITS = domain.policy_limits(BitrecsSettings())
TWICE = "Variable 'product_catalog' appears 2 times in "
ALLOWED = "['cart_json', 'current_date', 'num_recs', 'order_json', 'persona', 'product_catalog', 'sku', 'sku_info']"


def told(text: str) -> str:
    """What the policy says of a file, `fine` when nothing."""
    try:
        domain_policy.check_policy(domain_artifact.parse(text), text, LIMITS)
    except Malformed as refusal:
        return str(refusal.detail)
    return "fine"


def of(**changes: Any) -> str:
    return told(yaml.safe_dump(artifact(HOTKEY, **changes), width=10**6))


FORBIDDEN = "user_prompt_template contains forbidden Jinja syntax (only {{variable}} allowed)"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "fine"),
        (
            {"name": "bad-name!"},
            "name must be 1-30 alphanumeric characters only (letters and numbers, no special characters)",
        ),
        ({"name": "x" * 31}, "name must not be empty and must not exceed 30 characters"),
        ({"name": ""}, "name must not be empty and must not exceed 30 characters"),
        ({"version_num": 2}, "version_num must be 1"),
        ({"version_num": "1"}, "fine"),
        ({"model": " "}, "model must not be empty"),
        ({"system_prompt_template": "word " * 5001}, "system_prompt_template exceeds maximum token count"),
        ({"user_prompt_template": "word " * 10_001}, "user_prompt_template must not exceed maximum token count"),
        ({"status": "finished"}, "status must be 'screening_1' upon submission"),
        ({"provider": "FOO"}, "provider 'FOO' is not a supported LLM provider"),
        (
            {"provider": "claude"},
            "provider 'CLAUDE' is currently not supported. Supported providers are: CHUTES, OPEN_ROUTER",
        ),
        ({"provider": "chutes"}, "fine"),
        ({"model": "x:Free"}, "Free models are not supported"),
        (
            {"user_prompt_template": "{{sku}} like B0B9C3C8SS"},
            "Found 1 potential hardcoded SKUs in the prompt templates. Hardcoded SKUs are not",
        ),
        ({"user_prompt_template": "{% if x %}"}, "user_prompt_template is not a valid Jinja2 template: "),
        ({"user_prompt_template": "{% if sku %}x{% endif %}"}, FORBIDDEN),
        ({"user_prompt_template": "{% for a in sku %}x{% endfor %}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ a.b }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ sku|upper }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ ''.__class__ }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ sku + 1 }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ sku() }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ " + "(" * 3000 + ")" * 3000 + " }}"}, FORBIDDEN),
        ({"user_prompt_template": "{{ sku"}, "user_prompt_template is not a valid Jinja2 template: "),
        (
            {"system_prompt_template": "plain", "user_prompt_template": "{{ 'text' }} {{ 1 }}"},
            "No valid template variables found in either prompt template",
        ),
        (
            {"user_prompt_template": "{{secret}}"},
            f"user_prompt_template contains invalid variable(s): secret. Allowed variables are: {ALLOWED}",
        ),
        (
            {"user_prompt_template": "{{product_catalog}}"},
            TWICE + "TEMPLATE but may only appear 1 time(s)\n" + TWICE + "the RAW",
        ),
        (
            {"fewshot_examples": [{"role": "user", "content": "{{ product_catalog }}"}]},
            TWICE + "the RAW TEMPLATE but may only appear 1 time(s). Used variables: {",
        ),
    ],
)  # S39 - S48
def test_each_rule_has_its_own_words(changes: dict[str, Any], text: str) -> None:
    assert of(**changes).startswith(text)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sampling_params": None}, "sampling_params: is required"),
        ({"sampling_params": {}}, "sampling_params.temperature: is required"),
        ({"sampling_params": {"temperature": 2.1}}, "sampling_params.temperature: must be from 0 to 2"),
        ({"sampling_params": {"temperature": "nan"}}, "sampling_params.temperature: must be a number"),
        (
            {"sampling_params": {"temperature": 1, "max_tokens": 0}},
            "sampling_params.max_tokens: must be greater than 0",
        ),
        (
            {"sampling_params": {"temperature": 1, "stop_sequences": ["a", {}]}},
            "sampling_params.stop_sequences: must be",
        ),
        (
            {"fewshot_examples": [{"role": "user", "content": f"x{number}"} for number in range(65)]},
            "fewshot_examples: holds more than 64 examples",
        ),
        ({"model": "x" * 201}, "model: is longer than 200 characters"),
        ({"fewshot_examples": [{"role": "god", "content": "x"}]}, "fewshot_examples[0].role: must be one of"),
        ({"fewshot_examples": [{"role": "user", "content": "x" * 8193}]}, "fewshot_examples[0].content: is longer"),
        ({"eval_scores": {"x": "high"}}, "eval_scores.x: must be a number"),
        ({"version_num": True}, "version_num: must be a whole number"),
        ({"miner_hotkey": None}, "miner_hotkey: is required"),
        ({"name": ["a"]}, "name: must be text"),
    ],
)  # S49
def test_a_field_of_another_kind_is_named_with_its_path(changes: dict[str, Any], reason: str) -> None:
    assert of(**changes).startswith(f"Artifact YAML is invalid: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x b", "a: anchors are not allowed"),
        ("a: *x", "a: aliases are not allowed"),
        ("a: !!python/object:os.system x", "a: tags are not allowed"),
        ("a: !x b", "a: tags are not allowed"),
        ("<<: {a: b}", "merge keys are not allowed"),
        ("a: 1\na: 2", "the key 'a' appears twice"),
        ("a: b\n---\nc: d", "more than one document"),
        ("- a", "the top level must be a map"),
        ("", "the top level must be a map"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: " + "[" * 9 + "]" * 9, "nested deeper than 8 levels"),
        ("a: [" + "x," * 5001 + "]", "more than 5000 nodes"),
        ('a: "\\U00110000"', "an escape or number out of range"),
        ('a: "\\ud800"', "not valid Unicode"),
        ("a: \x07", "a character that YAML does not allow"),
        ("a: 'b", "line 1: found unexpected end of stream"),
    ],
)
def test_yaml_beyond_the_plain_kind_is_refused(text: str, reason: str) -> None:
    with pytest.raises(domain_artifact.BadYaml, match=r"(?s).*") as refused:
        domain_artifact.read_yaml(text)

    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sampling_params: {temperature: &a 1}", "sampling_params.temperature: anchors"),
        ("a:\n  b:\n  - c: x\n  - c: !!int 4", "a.b[1].c: tags"),
        ("a: {b: [{c: 1, c: 2}]}", "a.b[0]: the key 'c'"),
        ("a: " + "[" * 9 + "]" * 9, "a[0][0][0][0][0][0][0]: nested"),
    ],
)
def test_yaml_that_is_refused_is_named_with_its_whole_path(text: str, path: str) -> None:
    with pytest.raises(domain_artifact.BadYaml) as refused:
        domain_artifact.read_yaml(text)

    assert str(refused.value).startswith(path)


@pytest.mark.parametrize(
    "piece", ["[", "{a: ", "- ", "? ", "'", "&a [", "!!x ", "# c\n", "%YAML 1.1\n---\n", "a:\n ", '"\\x41']
)
def test_a_bomb_is_refused_without_recursion(piece: str) -> None:
    text = (piece * 131_072)[:131_072]

    assert told(text).startswith("Artifact YAML is invalid: ")


def test_scalars_are_text_whatever_they_look_like() -> None:
    found = domain_artifact.read_yaml("a: no\nb: 0o17\nc: 12:30:00\nd: 1e5\ne: ~\nf: '~'\ng: 2020-01-01")

    assert found == {"a": "no", "b": "0o17", "c": "12:30:00", "d": "1e5", "e": None, "f": "~", "g": "2020-01-01"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("ABC-123", 1), ("12345", 1), ("B0B9C3C8SS", 1), ("0394.8009.31", 1), ("B08.ZBCGX.SS", 1),
        ("SKU-123.456-ABC", 1), ("__B012345__", 1), ("123.4.5.6.7", 1), ("B012345/B067890", 2), ("{{ B0B9C3C8SS }}", 0),
        ("v1.0.1", 0), ("U.S.A.", 0), ("100mg", 0), ("2024", 0), ("cat-1", 0), ("1. ", 0), ("1234", 0), ("ABCDE", 0),
        ("1980s", 0), ("Y2K", 0), ("B08-ZBCGX-SS B08_ZBCGX_SS", 2), ("13-digit step1", 0),
    ],
)  # fmt: skip
def test_what_looks_like_a_product_number(text: str, count: int) -> None:
    assert len(domain_policy.find_skus(text)) == count


VECTORS = {
    "5C9TqVEs5Q51zUdjvp6tSsjHAfLseJKq1Dq6ULcuSLqEuRSf": (
        "2b4f484c10b0665ba4952aad64f08b144b2613b049ee74edf0daaad8ea9545996812e4ccf3e012b868c3eedff9b24a10576df34acf3059fb"
        "4fd435ad66ed500f"
    ),
    "5HB7kpn92RS7uF9uWn8bXSvPVKFPg8kPUFDd5sbveGjX6Dbi": (
        "4e79acb977ec2ec1ef2f9f4571958a89c9332faefbfa33f74dabbc95acc16360ddc3e1712c4771075ccb7b31b1123578d4c70e9633d06bdb"
        "0bad655707e0a980"
    ),
}


@pytest.mark.parametrize(("hotkey", "signature"), VECTORS.items())
def test_the_published_signatures_verify(hotkey: str, signature: str) -> None:
    message = f"2025-10-01T12:00:00+00:00:my-github-user:abc123def456abc123def456abc12345:{hotkey}".encode()
    raw = keys.signature_from_hex(signature)

    assert keys.verify(keys.public_key(hotkey), message, raw)
    assert not keys.verify(keys.public_key(hotkey), message + b"x", raw)


GOOD = yaml.safe_dump(artifact(HOTKEY))
PIECES = st.sampled_from(
    [*"[]{}:,-?&*!|>'\"%@`#\n\t \\", "a: ", "- ", "<<: ", "!!str ", "&a ", "*a", "---\n", "{{", "}}", "{%"]
)
NOISE = st.lists(PIECES | st.text(max_size=4), max_size=60).map("".join)


@settings(max_examples=scaled(300), deadline=None)
@given(NOISE, st.integers(0, len(GOOD)), st.integers(0, 40))
def test_no_text_gets_past_the_refusals(noise: str, at: int, cut: int) -> None:
    told(noise)
    told(GOOD[:at] + noise + GOOD[at + cut :])
