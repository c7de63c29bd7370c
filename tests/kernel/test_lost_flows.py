"""A flow may fail to start without failing the request that wanted it."""

from __future__ import annotations

import json

import pytest

from chalicelib.kernel import aws, flows

DEFINITION = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
ROLE = "arn:aws:iam::123456789012:role/any"


def machine(name: str) -> None:
    aws.client("stepfunctions").create_state_machine(
        name=flows.function_name(name), definition=json.dumps(DEFINITION), roleArn=ROLE
    )


def test_a_flow_that_cannot_start_is_left_to_the_sweep(cloud: None) -> None:
    assert flows.start_or_leave("pool-nothing", "first", {}) is False


def test_what_runs_is_listed_until_it_ends(cloud: None) -> None:
    machine("pool-timer")

    started = [flows.start_or_leave("pool-timer", name, {}) for name in ("a", "b")]

    assert started == [True, True]
    assert flows.running("pool-timer") == {"a", "b"}
    aws.client("stepfunctions").stop_execution(executionArn=f"{flows._arn('execution', 'pool-timer')}:a")
    assert flows.running("pool-timer") == {"b"}


def test_a_function_takes_its_account_from_its_settings_and_an_operator_asks(
    cloud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ":123456789012:" in flows._arn("stateMachine", "pool-timer")
    monkeypatch.setenv("AWS_ACCOUNT_ID", "210987654321")
    assert ":210987654321:" in flows._arn("stateMachine", "pool-timer")
    monkeypatch.delenv("AWS_ACCOUNT_ID")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    aws.forget_clients()
    assert ":000000000000:" in flows._arn("stateMachine", "pool-timer")
