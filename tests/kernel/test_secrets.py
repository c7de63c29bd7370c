"""Secrets are named in the environment and read from SSM or Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.kernel import aws, clock, secrets
from chalicelib.kernel.errors import Unavailable
from chalicelib.kernel.settings import SettingError, Settings, knob

Configure = Callable[..., None]


class VaultSettings(Settings, system="vault"):
    token: str = knob("none", "a token")
    size: int = knob(1, "a number")


Settings.registry.remove(VaultSettings)


@pytest.fixture(autouse=True)
def fresh(cloud: None) -> Iterator[None]:
    VaultSettings._current = None
    yield
    VaultSettings._current = None


def store(name: str, value: str) -> None:
    aws.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def test_a_variable_may_name_a_parameter(configure: Configure) -> None:
    store("/vault/token", "s3cret")
    configure(VAULT_TOKEN="ssm:/vault/token")
    assert VaultSettings.current().token == "s3cret"


def test_a_variable_may_name_a_secret_of_secrets_manager(configure: Configure) -> None:
    aws.client("secretsmanager").create_secret(Name="vault/token", SecretString="s3cret")
    configure(VAULT_TOKEN="secretsmanager:vault/token")
    assert VaultSettings.current().token == "s3cret"


@pytest.mark.parametrize("name", ["ssm:/vault/none", "secretsmanager:vault/none"])
def test_a_secret_that_is_not_there_leaves_the_default(configure: Configure, name: str) -> None:
    configure(VAULT_TOKEN=name)
    assert VaultSettings.current().token == "none"


def test_a_changed_secret_is_seen_after_five_minutes_and_not_before(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("/vault/token", "old")
    configure(VAULT_TOKEN="ssm:/vault/token")
    began = clock.monotonic()
    assert VaultSettings.current().token == "old"
    store("/vault/token", "new")
    assert VaultSettings.current().token == "old"
    monkeypatch.setattr(clock, "monotonic", lambda: began + secrets.FRESH_SECONDS + 60)
    assert VaultSettings.current().token == "new"


def test_settings_without_secrets_are_read_once(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(VAULT_TOKEN="plain")
    known = VaultSettings.current()
    monkeypatch.setattr(clock, "monotonic", lambda: 1e12)
    assert VaultSettings.current() is known


def unreachable(_service: str) -> Any:
    class Client:
        def get_parameter(self, **_: object) -> None:
            raise EndpointConnectionError(endpoint_url="https://ssm")

    return Client()


def test_a_secret_that_cannot_be_reached_is_a_passing_fault(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(VAULT_TOKEN="ssm:/vault/token")
    monkeypatch.setattr(aws, "client", unreachable)
    with pytest.raises(Unavailable):
        VaultSettings.current()


def test_what_was_known_serves_while_the_secret_cannot_be_reached(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("/vault/token", "old")
    configure(VAULT_TOKEN="ssm:/vault/token")
    began = clock.monotonic()
    assert VaultSettings.current().token == "old"
    monkeypatch.setattr(clock, "monotonic", lambda: began + secrets.FRESH_SECONDS + 60)
    monkeypatch.setattr(aws, "client", unreachable)
    assert VaultSettings.current().token == "old"


def test_an_unusable_secret_is_refused_without_being_shown(configure: Configure) -> None:
    store("/vault/size", "hunter2")
    configure(VAULT_SIZE="ssm:/vault/size")
    with pytest.raises(SettingError) as refused:
        VaultSettings.current()
    assert "hunter2" not in str(refused.value)
    assert "ssm:/vault/size" in str(refused.value)
