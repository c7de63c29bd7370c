"""Commands of the pool: seeds, epochs, bans and the contract's state for operators; work and claims for miners."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chalicelib.kernel import clock, keys
from chalicelib.kernel.settings import KernelSettings
from chalicelib.pool import domain, genome, merkle, store, store_claims, store_work, tasks_epochs
from chalicelib.pool.contracts import MAX_U64, PoolSettings
from chalicelib.pool.contracts_records import Algorithm

from . import api, clients, cloud, pool_epochs, pool_miner, pool_programs, signing, terminal, wallets

app = typer.Typer(no_args_is_help=True, help="The pool: seeds, epochs, work and claims.")
ban = typer.Typer(no_args_is_help=True, help="Miners that are refused.")
veto = typer.Typer(no_args_is_help=True, help="What is known of the claim contract.")
app.add_typer(ban, name="ban")
app.add_typer(veto, name="veto")

Address = Annotated[str, typer.Argument(help="SS58 address of the hotkey.")]
Url = Annotated[str | None, typer.Option("--url", help="Base URL of the mount; default: the laptop's.")]
_BUSY, _NONE = 400, 404
_PAUSE_SECONDS = 5


@app.command()
def seed(
    task_type: Annotated[str, typer.Option(help="Problem to seed.")] = domain.DEFAULT_TASK,
    file: Annotated[Path | None, typer.Option(help="Programs, parted by lines of ---; default: built in.")] = None,
) -> None:
    """Give the pool programs to evolve from; those that it has are left alone."""
    if task_type not in domain.INPUT_DIMS:
        terminal.refuse(f"--task-type takes {', '.join(domain.INPUT_DIMS)}", code="unknown_task_type")
    texts = pool_programs.read(file)
    dim = domain.INPUT_DIMS[task_type]
    parsed = []
    for number, text in enumerate(texts, start=1):
        try:
            parsed.append((text, genome.parse(text, dim).fingerprint(task_type, dim)))
        except genome.MalformedGenome as error:
            terminal.refuse(f"program {number}: {error}", code="malformed_program")
    cloud.connect()
    added = [found for text, fingerprint in parsed if (found := _seed(text, fingerprint, task_type, dim))]
    outcome = {"task_type": task_type, "added": len(added), "known": len(texts) - len(added), "ids": added}
    terminal.result(outcome, human=f"{len(added)} programs added, {len(texts) - len(added)} were known")


def _seed(text: str, fingerprint: str, task_type: str, dim: int) -> int | None:
    table, pk, sk = store_work.fingerprint_key(task_type, dim, fingerprint)
    if table.get(pk, sk):
        return None
    number = store_work.next_id()
    algorithm = Algorithm(
        number, task_type, dim, "", "", "seed", (), fingerprint, 0, clock.now(), PoolSettings.current().sota_floor
    )
    return number if store_work.add_seed(algorithm, text) else None


@app.command("publish-epoch")
def publish_epoch(
    epoch: Annotated[int, typer.Option(min=0, help="Number of the epoch.")],
    claims: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="JSON or CSV file of claims.")],
) -> None:
    """Build the tree, write every proof, publish; what is interrupted goes on where it was when run again."""
    if epoch > MAX_U64:
        terminal.refuse("--epoch is at most 2^64 - 1", code="bad_epoch")
    cloud.connect()
    with terminal.progress("reading", None) as _:
        packed = pool_epochs.claims(claims)
    known = store_claims.epoch(epoch)
    if known:
        _leave(known.number, known.digest, tasks_epochs.digest_of(packed))
        return
    with terminal.progress("hashing", None) as _:
        staged, tree = tasks_epochs.stage(epoch, packed)
    done = store_claims.progress(epoch, staged.digest)
    with terminal.progress("writing proofs", staged.leaves) as advance:
        advance(done)
        while done < staged.leaves:
            following = tasks_epochs.write_chunk(staged, done, tree)
            advance(following - done)
            done = following
    published = tasks_epochs.publish(staged)
    found = store_claims.epoch(epoch)
    if not published and (found is None or found.digest != staged.digest):
        terminal.refuse(f"epoch {epoch} was published by somebody else meanwhile", code="already_published")
    _say_published(epoch)


def _leave(epoch: int, published: str, asked: str) -> None:
    """A published epoch never changes; to ask for the same again is no error, to ask for another is."""
    if published != asked:
        terminal.refuse(f"epoch {epoch} is published with other claims and stays as it is", code="already_published")
    _say_published(epoch)


def _say_published(epoch: int) -> None:
    found = store_claims.epoch(epoch)
    assert found is not None
    outcome = {
        "epoch": epoch,
        "root": "0x" + found.root,
        "num_of_leaves": found.leaves,
        "total_units": found.total_units,
        "uri": found.uri,
    }
    terminal.result(outcome, human=f"epoch {epoch}: {found.leaves} claims, root 0x{found.root}")


@ban.command("add")
def ban_add(hotkey: Address) -> None:
    """Refuse a miner from its next request on."""
    _set_ban(hotkey, banned=True)


@ban.command("remove")
def ban_remove(hotkey: Address) -> None:
    """Let a miner in again."""
    _set_ban(hotkey, banned=False)


def _set_ban(hotkey: str, *, banned: bool) -> None:
    _check_address(hotkey)
    cloud.connect()
    store.set_ban(hotkey, banned=banned)
    store.refresh_leaderboard(clock.now())
    terminal.result({"hotkey": hotkey, "banned": banned}, human=f"{hotkey} is {'banned' if banned else 'let in'}")


def _check_address(text: str) -> None:
    try:
        keys.public_key(text)
    except keys.BadAddress as error:
        terminal.refuse(f"{text}: {error}", code="bad_address")


@veto.command("on")
def veto_on(count: Annotated[int, typer.Option(min=1, help="How many vetoes are active.")] = 1) -> None:
    """Lock claims."""
    _set_vetoes(count)


@veto.command("off")
def veto_off() -> None:
    """Let claims through."""
    _set_vetoes(0)


def _set_vetoes(count: int) -> None:
    cloud.connect()
    store.set_contract(count, paused=False, read_error=None, now=clock.now())
    terminal.result({"active_veto_count": count}, human="claims are locked" if count else "claims are open")


@app.command()
def work(
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    rounds: Annotated[int, typer.Option(min=1, help="Leases to work through.")] = 1,
    scorer: Annotated[str, typer.Option(help="Command that reads a program and prints its score.")] = "",
    task_type: Annotated[str, typer.Option(help="Problem to work on.")] = domain.DEFAULT_TASK,
    url: Url = None,
) -> None:
    """Mine: lease, evaluate, evolve, hand in."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    base = cloud.api_url(url, "pool")
    judge = pool_miner.from_command(scorer) if scorer else pool_miner.score
    clients.Pool(base, signer).register()
    done = [_lease(base, signer, judge, task_type) for _ in range(rounds)]
    whole = [answer for answer in done if answer]
    if not whole:
        terminal.refuse("the pool has no tasks", code="no_tasks")
    evaluated = sum(answer["accepted_evaluations"] for answer in whole)
    evolved = [number for answer in whole for number in answer["algorithm_ids"]]
    outcome = {"leases": len(whole), "evaluations": evaluated, "algorithm_ids": evolved}
    terminal.result(outcome, human=f"{len(whole)} leases, {evaluated} evaluations, {len(evolved)} programs evolved")


def _lease(base: str, signer: wallets.Hotkey, judge: pool_miner.Scorer, task_type: str) -> dict[str, Any] | None:
    reply = _post(base, "/api/v1/tasks/lease", signer, {"task_type": task_type})
    while reply.status == _BUSY and "active task" in reply.detail:
        terminal.say("an earlier task is still active, waiting")
        time.sleep(_PAUSE_SECONDS)
        reply = _post(base, "/api/v1/tasks/lease", signer, {"task_type": task_type})
    if reply.status == _NONE:
        return None
    lease = reply.expected()
    path = f"/api/v1/tasks/{lease['lease_id']}/submit_lease"
    try:
        body = _worked(lease, judge)
    except (typer.Exit, KeyboardInterrupt):
        _post(base, path, signer)  # handed in empty: the next run need not wait until it expires
        raise
    answer: dict[str, Any] = _post(base, path, signer, body).expected()
    return answer


def _worked(lease: dict[str, Any], judge: pool_miner.Scorer) -> dict[str, Any]:
    """What is handed in for a lease."""
    scored: dict[int, float] = {}
    with terminal.progress("evaluating", len(lease["evaluate_algorithms"])) as advance:
        for entry in lease["evaluate_algorithms"]:
            scored[entry["id"]] = judge(entry["algorithm_dsl"], entry["input_dim"])
            advance(1)
    evolutions = _evolved(lease, judge) if lease["evolve_budget"] else []
    return {
        "evaluations": [{"algorithm_id": number, "score": found} for number, found in scored.items()],
        "evolutions": evolutions,
        "iterations": len(scored) + len(evolutions),
    }


def _evolved(lease: dict[str, Any], judge: pool_miner.Scorer) -> list[dict[str, Any]]:
    """The best of some children of the best parent, if there is one."""
    parents = lease["seed_algorithms"] or lease["evaluate_algorithms"]
    if not parents:
        return []
    dice = random.Random()  # noqa: S311 - evolution, no secret
    parent = max(parents, key=lambda entry: (entry.get("score") or 0.0, dice.random()))
    children = [pool_miner.mutate(parent["algorithm_dsl"], dice) for _ in range(4)]
    best = max(children, key=lambda child: judge(child, parent["input_dim"]))
    return [{"parent_algorithm_ids": [parent["id"]], "algorithm_dsl": best}]


def _post(base: str, path: str, signer: wallets.Hotkey, body: Any = None) -> api.Reply:
    return api.call("POST", base + path, body=body or {}, headers=signing.pool(signer))


@app.command()
def claim(
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    address: Annotated[str, typer.Option(help="Hotkey to claim for, instead of a wallet's.")] = "",
    epoch: Annotated[int | None, typer.Option(min=0, help="Epoch to claim; default: the newest.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Base URL of the claim routes.")] = None,
) -> None:
    """Fetch a proof, check it here, and hand the claim in."""
    owner = address or wallets.load(wallet_name, hotkey, wallet_path).address
    _check_address(owner)
    claims = clients.Claims(_claims_url(url))
    number = claims.epoch(epoch)["epoch"]
    metadata = claims.epoch(number)
    package = claims.proof(number, owner)
    leaf = merkle.Leaf(
        package["index"], keys.public_key(owner), keys.public_key(package["recipient_coldkey"]), package["amount_units"]
    )
    path_up = [bytes.fromhex(item.removeprefix("0x")) for item in package["proof"]]
    if not merkle.verifies(bytes.fromhex(metadata["root"].removeprefix("0x")), number, leaf, path_up):
        terminal.refuse("the proof does not lead to the epoch's root", code="bad_proof")
    answer = claims.claim(number, package)
    terminal.result(answer, human=f"epoch {number}: {package['amount_units']} units to {package['recipient_coldkey']}")


def _claims_url(given: str | None) -> str:
    """The claim routes: by themselves where they are mounted so, else inside the pool."""
    mounted = {name.partition("=")[0].strip() for name in KernelSettings.current().mounts}
    if given or "claims" in mounted:
        return cloud.api_url(given, "claims")
    return cloud.api_url(None, "pool") + PoolSettings.current().claim_prefix
