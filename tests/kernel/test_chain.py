"""The copy of chain state: switched whole, aged honestly, never backwards, and left alone by a bad source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib.kernel import chain, chain_source, clock
from chalicelib.kernel import tasks as chain_tasks
from chalicelib.kernel.chain import Neuron, Subnet
from chalicelib.kernel.chain_substrate import SubstrateSource
from chalicelib.kernel.settings import SettingError
from chalicelib.kernel.wire import Item
from tests.harness import crash
from tests.harness.wallets import wallet

Freeze = Callable[[float], None]
Configure = Callable[..., None]
NOW = 1_795_000_000.0


def neuron(uid: int, **values: Any) -> dict[str, Any]:
    return {"uid": uid, "hotkey": wallet(f"n{uid}").hotkey, "coldkey": wallet(f"c{uid}").hotkey, **values}


def subnet(count: int = 2, netuid: int = 99) -> Subnet:
    return Subnet.model_validate({"netuid": netuid, "neurons": [neuron(uid) for uid in range(count)]})


def content(block: int = 100, **changes: Any) -> dict[str, Any]:
    neurons = [neuron(0, stake_rao="5000000000000", validator_permit=True)]
    commitments = [{"hotkey": wallet("n0").hotkey, "block": 90, "data": "text"}]
    subnets = {"leoma": {"netuid": 99, "neurons": neurons, "commitments": commitments}}
    return {"block": block, "block_at": NOW, "block_seconds": 12, "frozen": True, "subnets": subnets, **changes}


@pytest.fixture
def write(cloud: None, tmp_path: Path, configure: Configure, freeze: Freeze) -> Callable[[Any], None]:
    """Replaces the chain file; the clock stands at NOW."""
    file = tmp_path / "chain.json"
    freeze(NOW)
    configure(CHAIN_SOURCE=f"file:{file}")

    def write_now(value: Any) -> None:
        file.write_text(value if isinstance(value, str) else json.dumps(value))

    return write_now


def copy() -> tuple[Any, Any]:
    return chain.head(), chain.snapshot("leoma")


def test_a_sync_copies_block_neurons_and_commitments(write: Callable[[Any], None]) -> None:
    write(content())
    chain_tasks.sync()
    found = chain.snapshot("leoma")
    assert found
    assert (found.block, found.synced_at, chain.head()) == (100, NOW, chain.Head(100, NOW))
    assert found.subnet.by_hotkey[wallet("n0").hotkey].stake_rao == 5_000_000_000_000
    assert [entry.data for entry in found.subnet.commitments_of[wallet("n0").hotkey]] == ["text"]


def test_before_the_first_sync_there_is_nothing(write: Callable[[Any], None]) -> None:
    assert copy() == (None, None)


def test_the_same_block_again_refreshes_the_age(write: Callable[[Any], None], freeze: Freeze) -> None:
    write(content())
    chain_tasks.sync()
    freeze(NOW + 60)
    chain_tasks.sync()
    head, found = copy()
    assert (head.block, head.observed_at, found.block, found.synced_at) == (100, NOW + 60, 100, NOW + 60)


def test_a_lower_block_changes_and_refreshes_nothing(write: Callable[[Any], None], freeze: Freeze) -> None:
    write(content(100))
    chain_tasks.sync()
    before = copy()
    freeze(NOW + 60)
    write(content(99, subnets={"leoma": {"netuid": 1, "neurons": []}}))
    chain_tasks.sync()
    assert copy() == before


def test_an_absent_subnet_keeps_its_copy_and_its_age(write: Callable[[Any], None], freeze: Freeze) -> None:
    write(content(100))
    chain_tasks.sync()
    _, before = copy()
    freeze(NOW + 60)
    write(content(101, subnets={}))
    chain_tasks.sync()
    assert copy() == (chain.Head(101, NOW + 60), before)


UNUSABLE = {
    "not-json": "{",
    "a-list": "[]",
    "empty": "",
    "deep": "[" * 100_000,
    "no-block": json.dumps({"subnets": {}}),
    "negative-block": json.dumps(content(-1)),
    "block-beyond-reason": json.dumps(content(2**41)),
    "nan-block": '{"block": NaN}',
    "clock-beyond-reason": json.dumps(content(100, frozen=False, block_seconds=1e-9, block_at=0)),
    "block-time-zero": json.dumps(content(100, block_seconds=0)),
    "infinite-block-time": json.dumps(content(100)).replace("12,", "Infinity,"),
    "one-uid-twice": json.dumps(
        content(subnets={"leoma": {"netuid": 1, "neurons": [neuron(1), neuron(2) | {"uid": 1}]}})
    ),
    "one-hotkey-twice": json.dumps(
        content(subnets={"leoma": {"netuid": 1, "neurons": [neuron(1), neuron(1) | {"uid": 2}]}})
    ),
    "negative-stake": json.dumps(content(subnets={"leoma": {"netuid": 1, "neurons": [neuron(1, stake_rao="-1")]}})),
    "netuid-beyond-reason": json.dumps(content(subnets={"leoma": {"netuid": 70_000}})),
}


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_leaves_the_copy_with_its_age(write: Callable[[Any], None], text: str) -> None:
    write(content(100))
    chain_tasks.sync()
    before = copy()
    write(text)
    with pytest.raises(chain.ChainUnreadable):
        chain_tasks.sync()
    assert copy() == before


def test_a_missing_file_is_unreadable(configure: Configure) -> None:
    configure(CHAIN_SOURCE="file:/no/such/file.json")
    with pytest.raises(chain.ChainUnreadable, match="No such file"):
        chain_source.source().read()


@pytest.mark.parametrize("text", ["", "chain.json", "http://x", "FILE:x"])
def test_a_source_of_another_kind_is_a_wrong_setting(text: str, configure: Configure) -> None:
    configure(CHAIN_SOURCE=text)
    with pytest.raises(SettingError, match="CHAIN_SOURCE holds"):
        chain_source.source()


@pytest.mark.parametrize(
    ("moment", "frozen", "block"),
    [
        (NOW, False, 100),
        (NOW + 11.9, False, 100),
        (NOW + 12, False, 101),
        (NOW - 50, False, 100),
        (NOW + 99, True, 100),
    ],
)
def test_the_block_moves_with_the_clock_unless_frozen(
    write: Callable[[Any], None], freeze: Freeze, moment: float, *, frozen: bool, block: int
) -> None:
    write(content(frozen=frozen))
    freeze(moment)
    assert chain_source.source().read().block == block


def test_unknown_keys_are_ignored(write: Callable[[Any], None]) -> None:
    write(content(extra=1, subnets={"leoma": {"netuid": 1, "x": 1, "neurons": [neuron(1, y=2)]}}))
    assert chain_source.source().read().subnets["leoma"].neurons[0].uid == 1


def test_a_subnet_of_another_name_is_an_unknown_key(write: Callable[[Any], None]) -> None:
    write(content(subnets={"elsewhere": {"neurons": "x"}, "leoma": {"netuid": 7}}))
    assert chain_source.source().read().subnets == {"leoma": Subnet(netuid=7)}


def test_the_file_s_netuid_wins_over_the_knob_which_fills_in(
    write: Callable[[Any], None], configure: Configure
) -> None:
    configure(LEOMA_NETUID="5", POOL_NETUID="6")
    write(content(subnets={"leoma": {"netuid": 7}, "pool": {}}))
    found = chain_source.source().read().subnets
    assert (found["leoma"].netuid, found["pool"].netuid) == (7, 6)


@pytest.mark.parametrize(
    ("mounted", "asked"), [("leoma=/", {"leoma": 7}), ("claims=/, prism = /p", {"pool": 8, "prism": 9})]
)
def test_a_node_is_asked_for_what_is_served_alone(configure: Configure, mounted: str, asked: dict[str, int]) -> None:
    configure(CHAIN_SOURCE="ws://127.0.0.1:9", MOUNTS=mounted, LEOMA_NETUID="7", POOL_NETUID="8", PRISM_NETUID="9")
    live = chain_source.source()
    assert isinstance(live, SubstrateSource)
    assert live._netuids == asked


def test_a_block_that_does_not_say_when_it_was_stands(write: Callable[[Any], None]) -> None:
    write({"block": 100})
    assert chain_source.source().read().block == 100


def test_a_large_snapshot_takes_several_pages_and_comes_back_whole(
    cloud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_PAGE_BYTES", 1000)
    big = subnet(400)
    chain.save_snapshot("leoma", 1, big)
    chain._load.cache_clear()
    pages = [key for key in crash.tables("chain") if "SNAP#leoma#" in key]
    assert len(pages) > 5
    found = chain.snapshot("leoma")
    assert found
    assert found.subnet == big


def test_a_page_stays_far_below_what_an_item_may_hold() -> None:
    assert chain._PAGE_BYTES < 350_000


def test_a_snapshot_that_lost_a_page_is_an_error_not_a_smaller_subnet(
    cloud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_PAGE_BYTES", 1000)
    chain.save_snapshot("leoma", 1, subnet(100))
    chain._load.cache_clear()
    found = next(chain.table.query_all(pages_of("leoma")))
    chain.table.delete(found["pk"], found["sk"])
    with pytest.raises(RuntimeError, match="not whole"):
        chain.snapshot("leoma")


def pages_of(system: str) -> str:
    head: Item = chain.table.get(f"SNAP#{system}", "HEAD") or {}
    return f"SNAP#{system}#{head['version']}"


def test_who_read_the_old_head_still_finds_the_old_pages(cloud: None, freeze: Freeze) -> None:
    freeze(NOW)
    chain.save_snapshot("leoma", 1, subnet(1))
    old = chain.table.get("SNAP#leoma", "HEAD")
    chain.save_snapshot("leoma", 2, subnet(2))
    chain._load.cache_clear()
    found = chain.snapshot_of("leoma", old)
    assert found
    assert len(found.subnet.neurons) == 1
    assert [page["ttl"] for page in chain.table.query_all(f"SNAP#leoma#{(old or {})['version']}")] == [int(NOW) + 3600]


def test_a_state_that_returns_does_not_expire_with_its_first_copy(cloud: None) -> None:
    """A → B → A: the pages of the first A are on their way out when the second A is written."""
    chain.save_snapshot("leoma", 1, subnet(1))
    first = pages_of("leoma")
    chain.save_snapshot("leoma", 2, subnet(2))
    chain.save_snapshot("leoma", 3, subnet(1))
    assert pages_of("leoma") != first
    assert all("ttl" not in page for page in chain.table.query_all(pages_of("leoma")))


def test_an_unchanged_state_writes_no_pages(cloud: None) -> None:
    chain.save_snapshot("leoma", 1, subnet(1))
    first = pages_of("leoma")
    chain.save_snapshot("leoma", 2, subnet(1))
    assert pages_of("leoma") == first


def test_a_sync_killed_anywhere_leaves_a_whole_copy_and_the_next_one_finishes(freeze: Freeze) -> None:
    freeze(NOW)

    def prepare() -> None:
        chain.save_snapshot("leoma", 1, subnet(1))

    def act() -> None:
        chain._load.cache_clear()
        assert chain.snapshot("leoma")
        chain.save_head(2)
        chain.save_snapshot("leoma", 2, subnet(2))

    def state() -> Any:
        chain._load.cache_clear()
        head, found = copy()
        return head, found.block, found.subnet

    wanted = crash.undisturbed(prepare, act, state)
    endings = list(crash.endings(prepare, act, state))
    assert len(endings) >= 10
    assert [ending for ending in endings if ending.state != wanted] == []


def test_neurons_are_bounded() -> None:
    for bad in ({"uid": -1}, {"uid": 65_536}, {"stake_rao": 10**20}, {"registered_at_block": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Neuron.model_validate(neuron(1) | bad)


def test_the_clock_enters_at_one_place(freeze: Freeze) -> None:
    freeze(NOW)
    assert clock.now() == NOW
    assert (clock.stamp(NOW + 0.25), clock.stamp_seconds(NOW)) == (
        "2026-11-18T11:06:40.250000Z",
        "2026-11-18T11:06:40Z",
    )
