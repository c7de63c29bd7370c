"""The live chain: a stand-in node that serves a real runtime's metadata and storage encoded by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chalicelib.kernel import chain, chain_source, chain_substrate, tasks
from chalicelib.kernel.chain import ChainUnreadable, Subnet
from chalicelib.kernel.chain_substrate import PAGE, SubstrateSource, plain_texts, revealed_text
from tests.harness.node import GENESIS, Chain, metadata_file, recorded_chain, serving
from tests.harness.wallets import wallet

NETUID = 99
TAO = 10**9
HALF = 2**63
HOTKEYS = [wallet(f"neuron {uid}").hotkey for uid in range(3)]
TEXT = "0123456789abcdef" * 6

pytestmark = pytest.mark.skipif(
    metadata_file() is None, reason="no recorded runtime metadata: set SUBTENSOR_METADATA to a .hex.gz file"
)


@pytest.fixture(scope="module")
def recorded() -> Chain:
    path = metadata_file()
    assert path
    return recorded_chain(path)


@pytest.fixture
def node(recorded: Chain) -> Chain:
    """Three neurons, of which the first validates; the second gave half of its stake to the third."""
    recorded.storage.clear()
    recorded.requests.clear()
    recorded.heal()
    recorded.block, recorded.genesis, recorded.spec_version = 1000, GENESIS, 1
    for uid, hotkey in enumerate(HOTKEYS):
        recorded.put("SubtensorModule", "Keys", [NETUID, uid], hotkey)
        recorded.put("SubtensorModule", "Owner", [hotkey], wallet(f"cold {uid}").hotkey)
        recorded.put("SubtensorModule", "BlockAtRegistration", [NETUID, uid], 100 + uid)
        recorded.put("SubtensorModule", "TotalHotkeyAlpha", [hotkey, NETUID], 1000 * TAO)
    recorded.put("SubtensorModule", "TotalHotkeyAlpha", [HOTKEYS[0], 0], 500 * TAO)
    recorded.put("SubtensorModule", "TaoWeight", [], 2**64 // 5)
    recorded.put("SubtensorModule", "ChildKeys", [HOTKEYS[1], NETUID], [(HALF, HOTKEYS[2])])
    recorded.put("SubtensorModule", "ParentKeys", [HOTKEYS[2], NETUID], [(HALF, HOTKEYS[1])])
    recorded.put("SubtensorModule", "ValidatorPermit", [NETUID], [True, False, False])
    recorded.put("SubtensorModule", "LastUpdate", [NETUID], [990, 5, 0])
    return recorded


@pytest.fixture
def url(node: Chain) -> Iterator[str]:
    with serving(node) as address:
        yield address


@pytest.fixture
def source(url: str) -> Iterator[Callable[..., SubstrateSource]]:
    """Makes sources that are closed in the end."""
    made: list[SubstrateSource] = []

    def make(**options: str) -> SubstrateSource:
        made.append(SubstrateSource(url, {"leoma": NETUID}, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def syncing(cloud: None, configure: Callable[..., None], url: str) -> Iterator[None]:
    """The sync task reads the node."""
    configure(CHAIN_SOURCE=url, LEOMA_NETUID=str(NETUID))
    yield
    live = chain_source.source()
    assert isinstance(live, SubstrateSource)
    live.close()


def test_neurons_come_with_everything_that_a_system_asks_for(source: Callable[..., SubstrateSource]) -> None:
    reading = source().read()

    first = reading.subnets["leoma"].neurons[0]
    assert reading.block == 1000
    assert (first.uid, first.hotkey, first.coldkey) == (0, HOTKEYS[0], wallet("cold 0").hotkey)
    assert (first.validator_permit, first.registered_at_block, first.last_update) == (True, 100, 990)


def test_stake_is_alpha_and_weighted_root_after_child_keys(source: Callable[..., SubstrateSource]) -> None:
    neurons = source().read().subnets["leoma"].neurons

    assert [round(neuron.stake_rao / TAO) for neuron in neurons] == [1100, 500, 1500]


def test_child_keys_of_the_subnet_move_root_stake_too(node: Chain, source: Callable[..., SubstrateSource]) -> None:
    """A parent need not be registered on the subnet; child keys of another subnet move nothing here."""
    parent = wallet("a validator elsewhere").hotkey
    node.put("SubtensorModule", "TotalHotkeyAlpha", [parent, 0], 400 * TAO)
    node.put("SubtensorModule", "TotalHotkeyAlpha", [HOTKEYS[1], 0], 200 * TAO)
    node.put("SubtensorModule", "ParentKeys", [HOTKEYS[2], NETUID], [(HALF, HOTKEYS[1]), (HALF, parent)])
    node.put("SubtensorModule", "ChildKeys", [HOTKEYS[0], NETUID + 1], [(HALF, HOTKEYS[1])])
    node.put("SubtensorModule", "ParentKeys", [HOTKEYS[1], NETUID + 1], [(HALF, HOTKEYS[0])])

    neurons = source().read().subnets["leoma"].neurons

    second = 500 + 100 / 5
    third = 1000 + 500 + (100 + 200) / 5
    assert [round(neuron.stake_rao / TAO) for neuron in neurons] == [1100, second, third]


def test_revealed_and_plain_commitments_are_read_as_text(node: Chain, source: Callable[..., SubstrateSource]) -> None:
    length = (len(TEXT) << 2 | 1).to_bytes(2, "little")
    node.put("Commitments", "RevealedCommitments", [NETUID, HOTKEYS[0]], [("0x" + (length + TEXT.encode()).hex(), 777)])
    info = {"fields": [[{"Raw5": "0x" + b"plain".hex()}]]}
    node.put("Commitments", "CommitmentOf", [NETUID, HOTKEYS[1]], {"deposit": 0, "block": 555, "info": info})

    found = source().read().subnets["leoma"].commitments_of

    assert [(entry.block, entry.data) for entry in found[HOTKEYS[0]]] == [(777, TEXT)]
    assert [(entry.block, entry.data) for entry in found[HOTKEYS[1]]] == [(555, "plain")]


def test_balances_are_those_of_the_coldkey(node: Chain, source: Callable[..., SubstrateSource]) -> None:
    flags = {"free": 7 * TAO, "reserved": 0, "frozen": 0, "flags": 0}
    account = {"nonce": 0, "consumers": 0, "providers": 1, "sufficients": 0, "data": flags}
    node.put("System", "Account", [wallet("cold 0").hotkey], account)

    assert source().read().subnets["leoma"].neurons[0].balance_rao == 7 * TAO


def test_many_neurons_are_read_in_pages_at_one_block(node: Chain, source: Callable[..., SubstrateSource]) -> None:
    live = source()
    for many in (PAGE, PAGE + 10):
        for uid in range(3, many):
            node.put("SubtensorModule", "Keys", [NETUID, uid], wallet(f"neuron {uid}").hotkey)
        node.requests.clear()

        assert len(live.read().subnets["leoma"].neurons) == many
        assert len(node.requests) < 60
        assert node.requests.count("chain_getHead") == 1


def test_a_subnet_that_the_chain_does_not_have_is_an_empty_one(url: str) -> None:
    live = SubstrateSource(url, {"leoma": NETUID, "pool": 7})
    assert live.read().subnets["pool"] == Subnet(netuid=7)
    live.close()


def broken(node: Chain, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """From its next storage reads on the node no longer does its work."""
    if how == "dropped":
        node.drop_after = len(node.requests) + 5
    elif how == "pruned":
        node.refusal = "State already discarded"
    elif how == "silent":
        node.silent = True
    else:
        monkeypatch.setattr(node, "rpc_state_queryStorageAt", lambda *_: "nonsense")


@pytest.mark.parametrize("how", ["dropped", "pruned", "silent", "garbled"])
def test_a_node_that_fails_in_the_middle_leaves_the_old_copy_whole(
    syncing: None, node: Chain, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(chain_substrate, "_ANSWER_SECONDS", 2)
    tasks.sync()
    before = chain.snapshot("leoma")
    node.put("SubtensorModule", "Keys", [NETUID, 0], wallet("usurper").hotkey)
    node.block += 1
    with monkeypatch.context() as trouble:
        broken(node, trouble, how)
        with pytest.raises(ChainUnreadable, match=r"ws://127\.0\.0\.1"):
            tasks.sync()
    interrupted = chain.snapshot("leoma")
    node.heal()
    tasks.sync()

    after = chain.snapshot("leoma")
    assert before
    assert after
    assert interrupted == before
    assert (after.block, after.subnet.neurons[0].hotkey) == (1001, wallet("usurper").hotkey)


def test_a_node_that_rewinds_changes_nothing(syncing: None, node: Chain) -> None:
    tasks.sync()
    node.block -= 10
    node.put("SubtensorModule", "Keys", [NETUID, 0], wallet("usurper").hotkey)

    tasks.sync()

    head, copy = chain.head(), chain.snapshot("leoma")
    assert head
    assert copy
    assert (head.block, copy.block, copy.subnet.neurons[0].hotkey) == (1000, 1000, HOTKEYS[0])


def test_another_chain_is_refused_by_its_genesis(source: Callable[..., SubstrateSource]) -> None:
    with pytest.raises(ChainUnreadable, match="serves the chain"):
        source(genesis="0x" + "22" * 32).read()
    assert source(genesis=GENESIS).read().block == 1000


def test_an_upgrade_that_renames_an_entry_is_refused_by_name_and_one_that_names_it_back_is_read(
    node: Chain, source: Callable[..., SubstrateSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was there before, with the old runtime decoded."""
    live = source()
    assert live.read().block == 1000
    renamed = node.metadata_hex.replace(b"RevealedCommitments".hex(), b"RevealedCommitmentz".hex())
    with monkeypatch.context() as upgraded:
        upgraded.setattr(node, "metadata_hex", renamed)
        node.block, node.spec_version = 1001, 2
        with pytest.raises(ChainUnreadable, match=r"no storage entry Commitments\.RevealedCommitments"):
            live.read()
    node.block, node.spec_version = 1002, 3
    assert live.read().subnets["leoma"].neurons[0].hotkey == HOTKEYS[0]


def test_nobody_at_the_address_is_told_with_the_address() -> None:
    with pytest.raises(ChainUnreadable, match=r"127\.0\.0\.1:9"):
        SubstrateSource("ws://127.0.0.1:9", {}).read()


@pytest.mark.parametrize(
    ("blob", "text"),
    [
        ("0x" + bytes([5 << 2]).hex() + b"short".hex(), "short"),
        ("0x" + (len(TEXT) << 2 | 1).to_bytes(2, "little").hex() + TEXT.encode().hex(), TEXT),
        ("no length in front", "no length in front"),
        ("0x" + b"\xff\xfe\xfd".hex(), None),
        ("0x", ""),
    ],
)
def test_a_reveal_sheds_its_length(blob: str, text: str | None) -> None:
    assert revealed_text(blob) == text


def test_hashes_and_sealed_fields_are_no_text() -> None:
    fields = [
        [{"BlakeTwo256": "0x" + "00" * 32}, {"TimelockEncrypted": {"encrypted": "0x00"}}, {"Raw2": "0x6869"}, "None"]
    ]

    assert list(plain_texts(fields)) == ["hi"]
