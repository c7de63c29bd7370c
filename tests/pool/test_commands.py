"""`subnetctl pool`, as its operator and its miners call it."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import app as app_module
from chalicelib.pool import merkle, tasks_epochs
from subnetctl import pool as pool_commands
from subnetctl import pool_epochs, pool_miner, pool_programs
from tests.harness import command
from tests.harness.client import over_http
from tests.harness.command import Run
from tests.harness.wallets import wallet
from tests.pool.test_claims import ALICE, BOB, CHARLIE, DAVE, ROOT
from tests.pool.world import Pool, settle

WALLETS = Path(__file__).resolve().parent.parent.parent / "local" / "wallets"
GOLDEN: list[dict[str, Any]] = [
    {"hotkey": ALICE, "recipient_coldkey": DAVE, "amount_units": 250000000},
    {"hotkey": BOB, "amount_units": 1},
    {"hotkey": CHARLIE, "recipient_coldkey": DAVE, "amount_units": 123456789012},
]


@pytest.fixture
def run(pool: Pool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return functools.partial(command.here(monkeypatch, capfd), "pool")


@pytest.fixture
def url(pool: Pool) -> Iterator[str]:
    """The pool over HTTP."""
    with over_http(app_module.build()) as url:
        yield f"{url}/pool"


def claims_file(folder: Path, claims: Any, name: str = "claims.json") -> str:
    file = folder / name
    file.write_text(claims if isinstance(claims, str) else json.dumps({"claims": claims}))
    return str(file)


def test_seeding_twice_adds_a_dozen_once(run: Run) -> None:
    first, again = run("seed"), run("seed", "--task-type", "cifar10_binary")

    assert first[0] == again[0] == 0
    assert first[1]["added"] >= 12
    assert (again[1]["added"], again[1]["known"]) == (0, first[1]["added"])
    assert run("seed", "--task-type", "mnist_binary")[1]["added"] >= 12


def test_a_file_of_seeds_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\xff\xd8")

    status, _, words = run("seed", "--file", str(tmp_path / "image"))
    assert status == 1
    assert "is no UTF-8 text" in words


def test_a_file_of_seeds_is_parted_by_dashes_and_checked(run: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("s0 = s1\n---\ns0 = s2\n---\n")
    bad.write_text("s0 = s1\n---\nhello\n")

    assert run("seed", "--file", str(good))[1]["added"] == 2
    assert run("seed", "--file", str(bad))[0] == run("seed", "--task-type", "nope")[0] == 1


def test_the_golden_epoch_is_published_once_and_then_left_alone(run: Run, pool: Pool, tmp_path: Path) -> None:
    status, found, _ = run("publish-epoch", "--epoch", "1144", "--claims", claims_file(tmp_path, GOLDEN))
    assert (status, found["root"], found["num_of_leaves"]) == (0, ROOT, 3)
    assert pool.get("/claims/epochs").json["epochs"] == [1144]
    assert run("publish-epoch", "--epoch", "1144", "--claims", claims_file(tmp_path, GOLDEN))[0] == 0
    other = claims_file(tmp_path, GOLDEN[:1])
    assert run("publish-epoch", "--epoch", "1144", "--claims", other)[0] == 1
    assert pool.get("/claims/epoch").json["root"] == ROOT


def test_a_publication_that_is_killed_goes_on_where_it_was(
    run: Run, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]
) -> None:
    written: list[int] = []
    write = tasks_epochs.write_chunk

    def write_until_killed(staged: tasks_epochs.Staged, first: int, tree: merkle.Tree) -> int:
        if first == 2 and len(written) == 2:
            raise OSError("killed")
        written.append(first)
        return write(staged, first, tree)

    configure(PUBLISH_CHUNK="1")
    monkeypatch.setattr(tasks_epochs, "write_chunk", write_until_killed)
    words = ("publish-epoch", "--epoch", "1144", "--claims", claims_file(tmp_path, GOLDEN))

    assert run(*words)[0] == 1
    assert pool.get("/claims/epochs").json["epochs"] == []
    written.append(9)
    assert run(*words)[1]["root"] == ROOT
    assert written == [0, 1, 9, 2]


def test_csv_says_the_same(run: Run, tmp_path: Path) -> None:
    rows = "".join(f"{row['hotkey']},{row.get('recipient_coldkey', '')},{row['amount_units']}\n" for row in GOLDEN)
    file = claims_file(tmp_path, "hotkey,recipient_coldkey,amount_units\n" + rows, "claims.csv")

    assert run("publish-epoch", "--epoch", "1144", "--claims", file)[1]["root"] == ROOT


def test_csv_as_a_spreadsheet_saves_it_says_the_same_or_is_refused(run: Run, tmp_path: Path) -> None:
    words = ("publish-epoch", "--epoch", "4", "--claims")
    for tail in (b"\xff\xfe,5\n", b"x" * 200_000 + b",5\n"):
        (tmp_path / "bad.csv").write_bytes(b"hotkey,amount_units\n" + tail)
        status, _, said = run(*words, str(tmp_path / "bad.csv"))
        assert status == 1
        assert "not a claims file" in said
    marked = claims_file(tmp_path, f"\ufeffhotkey,amount_units\n{ALICE},5\n", "marked.csv")

    assert run(*words, marked)[1]["total_units"] == 5


def test_a_claim_without_a_recipient_pays_the_current_mapping(run: Run, pool: Pool, tmp_path: Path) -> None:
    (a,) = pool.register("a")
    pool.recipient(a, DAVE)
    claims = [{"hotkey": a.hotkey, "amount_units": 5}, {"hotkey": BOB, "amount_units": 5}]
    assert run("publish-epoch", "--epoch", "2", "--claims", claims_file(tmp_path, claims))[0] == 0

    paid = [pool.get(f"/claims/epoch/2/proof/{key}").json["recipient_coldkey"] for key in (a.hotkey, BOB)]
    assert paid == [DAVE, BOB]


@pytest.mark.parametrize(
    "claims",
    [
        [],
        [{"hotkey": ALICE, "amount_units": 0}],
        [{"hotkey": ALICE, "amount_units": 2**64}],
        [{"hotkey": ALICE, "amount_units": 1.5}],
        [{"hotkey": ALICE, "amount_units": True}],
        [{"hotkey": ALICE[:-1], "amount_units": 1}],
        [{"hotkey": ALICE, "recipient_coldkey": "x", "amount_units": 1}],
        [{"hotkey": ALICE, "amount_units": 1}] * 2,
        [{"hotkey": key, "amount_units": 2**63} for key in (ALICE, BOB)],
        [{"hotkey": ALICE, "amount_units": "9" * 5000}],
        [5],
        "nonsense",
        '{"claims": [{"hotkey": ',
    ],
)
def test_a_claims_file_that_is_wrong_publishes_nothing(run: Run, pool: Pool, tmp_path: Path, claims: Any) -> None:
    status, found, words = run("publish-epoch", "--epoch", "3", "--claims", claims_file(tmp_path, claims))

    assert (status, found) == (1, None)
    assert "Traceback" not in words
    assert pool.get("/claims/epochs").json["epochs"] == []


def test_a_long_file_is_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: None) -> None:
    """Whatever the size of a piece, the claims are the same."""
    claims = [{"hotkey": wallet(f"m{n}").hotkey, "recipient_coldkey": DAVE, "amount_units": n + 1} for n in range(50)]
    file = Path(claims_file(tmp_path, json.dumps({"about": "[x]", "claims": claims}, indent=3)))
    whole = pool_epochs.claims(file)
    for size in (40, 41, 97, 1000):
        monkeypatch.setattr(pool_epochs, "_READ", size)
        assert pool_epochs.claims(file) == whole
    assert len(whole) == 50 * merkle.RECORD


def test_three_miners_work_agree_and_claim(
    run: Run, pool: Pool, url: str, tmp_path: Path, freeze: Callable[[float], None]
) -> None:
    freeze(time.time())
    for name in ("alice", "bob", "charlie"):
        words = ["--wallet-name", "dev", "--hotkey", name, "--wallet-path", str(WALLETS), "--url", url]
        status, found, _ = run("work", *words, "--scorer", "echo 0.75")
        assert (status, found["leases"], found["evaluations"]) == (0, 1, 8)
        assert len(found["algorithm_ids"]) == 1
    settle()
    assert pool.get("/api/v1/miners/leaderboard").json["miners"][0]["agreements"] >= 1
    run("publish-epoch", "--epoch", "1144", "--claims", claims_file(tmp_path, GOLDEN))
    words = ["--wallet-name", "dev", "--hotkey", "alice", "--wallet-path", str(WALLETS), "--url", f"{url}/claims"]
    status, paid, _ = run("claim", *words)
    assert (status, paid["amount_units"], paid["recipient_coldkey"]) == (0, 250000000, DAVE)
    assert run("claim", *words)[0] == 1
    assert run("claim", "--address", BOB, "--epoch", "1144", "--url", f"{url}/claims")[1]["amount_units"] == 1


def test_a_scorer_that_fails_leaves_its_miner_free(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, freeze: Callable[[float], None]
) -> None:
    freeze(time.time())
    monkeypatch.setattr(pool_miner, "_SCORER_SECONDS", 0.3)
    monkeypatch.setattr(pool_commands, "_PAUSE_SECONDS", -1)  # no pause of that length: a miner that waits fails
    words = ["work", "--wallet-name", "dev", "--hotkey", "alice", "--wallet-path", str(WALLETS), "--url", url]

    for scorer, said in (
        ("echo 7", "not a score from 0 to 1"),
        ("echo nan", "not a score from 0 to 1"),
        ("true", "not a score from 0 to 1"),
        ("sleep 9", "longer than"),
        ("/no/such/scorer", "does not start"),
    ):
        status, _, told = run(*words, "--scorer", scorer)
        assert (status, said in told) == (1, True), told
    assert run(*words, "--scorer", "echo 0.75")[1]["evaluations"] == 8


def test_bans_and_vetoes_are_the_operator_s(run: Run, pool: Pool) -> None:
    (a,) = pool.register("a")

    assert run("ban", "add", a.hotkey)[0] == 0
    assert pool.get("/api/v1/miners/stats", a).status == 403
    assert run("ban", "remove", a.hotkey)[0] == 0
    assert pool.get("/api/v1/miners/stats", a).status == 200
    assert run("ban", "add", "nonsense")[0] == 1
    assert run("veto", "on")[0] == 0
    assert pool.get("/health").json["onchain_runtime"]["contract_status"]["is_veto_active"] is True
    assert run("veto", "off")[0] == 0
    assert run("nonsense")[0] != 0


def test_the_reference_scorer_is_the_same_for_everybody_and_survives_any_program() -> None:
    first = pool_programs.read(None)[2]

    assert pool_miner.score(first, 16) == pool_miner.score(first, 16) > 0.7
    assert pool_miner.score("hello", 16) == 0.0
    wild = "\n".join(
        f"m0 = outer(v0, v0)\nv1 = matmul(m0, v0)\nv0 = v1 * v1\ns0 = {name}(v0)" for name in ("exp", "log")
    )
    assert 0.0 <= pool_miner.score(wild + "\ns0 = norm(v0)\n", 16) <= 1.0
