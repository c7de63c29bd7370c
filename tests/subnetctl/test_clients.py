"""The clients: what they send is what the systems take, and what is signed is composed in one place."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

import app as app_module
from local.gateway import Gateway
from local.server import Server
from subnetctl import api, clients
from tests.harness import command
from tests.harness.command import Run
from tests.harness.laptop import ROOT
from tests.harness.wallets import Wallet, wallet

MAY_SIGN = {"signing.py", "wallets.py", "clients.py", "main.py"}


class Signer:
    """A wallet of the tests, as the clients want it."""

    def __init__(self, held: Wallet) -> None:
        self.address = held.hotkey
        self.sign = held.sign


ME = Signer(wallet("a client"))


@pytest.fixture
def url(cloud: None) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(Gateway(app_module.build()).answer, listener)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.stop()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return command.here(monkeypatch, capfd)


def refused(act: object) -> str:
    assert callable(act)
    with pytest.raises(api.Refused) as caught:
        act()
    return caught.value.code


def test_every_system_has_a_client_that_reaches_its_health(url: str) -> None:
    for name in ("Prism", "Pool", "Bitrecs", "Leoma"):
        assert getattr(clients, name)(f"{url}/{name.lower()}").health()["status"]
    assert clients.Experts(f"{url}/experts", "token").health()


def test_signatures_are_taken_and_what_is_refused_is_the_stranger(url: str) -> None:
    """Every one of these passes the signature check; nobody is registered on an empty chain."""
    assert refused(lambda: clients.Leoma(f"{url}/leoma", ME).blacklist(ME.address)) == "validator_not_registered"
    assert refused(lambda: clients.Pool(f"{url}/pool", ME).lease("cifar10_binary")) == "miner_not_registered"
    assert refused(lambda: clients.Experts(f"{url}/experts", "wrong", ME).full()) == "unauthorized"
    project = {"code": "def build_model(ctx): ...\ndef get_recipe(ctx): ...\n", "filename": "model.py"}
    made = clients.Prism(f"{url}/prism", ME).submit(project)
    assert clients.Prism(f"{url}/prism").submission(made["id"])["status"] == "pending"


def test_a_client_without_a_hotkey_says_so() -> None:
    with pytest.raises(ValueError, match="hotkey"):
        clients.Leoma("http://127.0.0.1:9/leoma").submit([{"task_id": 1}])


def test_a_page_that_is_no_api_is_not_taken_for_an_answer(url: str) -> None:
    assert refused(lambda: clients.Client(f"{url}/leoma").get("/dashboard")) == "not_the_api"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "http://127.0.0.1:x", "http://[::1", "http://127.0.0.1:9/a b", "http://ü..x", "x"]
)
def test_an_address_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, address: str, run: Run) -> None:
    status, result, words = run("leoma", "watch", "--url", address)

    assert (status, result) == (1, None)
    assert json.loads(words)["code"] == "no_answer"
    assert json.loads(words)["detail"].startswith(f"no answer from {address}/scores/rank: ")


def test_what_cannot_be_a_header_is_a_refusal_too() -> None:
    with pytest.raises(api.Unreachable):
        api.call("GET", "http://127.0.0.1:9", headers={"X-ORTK": "a\r\nb"})


def test_what_is_signed_is_composed_in_one_place() -> None:
    signing = [path.name for path in (ROOT / "subnetctl").glob("*.py") if ".sign(" in path.read_text("utf-8")]
    assert set(signing) <= MAY_SIGN
