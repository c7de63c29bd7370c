"""Experts: publish models, look at phases, download slices, submit checkpoints."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chalicelib.experts import domain, store, tasks_publishing, tasks_rounds
from chalicelib.experts.contracts import ExpertsSettings
from chalicelib.experts.tensors import BrokenFile
from chalicelib.kernel import chain, clock, codec, flows, keys, tokens
from chalicelib.kernel.settings import KernelSettings

from . import clients, cloud, experts_transfer, terminal, wallets

app = typer.Typer(no_args_is_help=True, help="Mixture-of-experts weights: publish, download, submit.")
token = typer.Typer(no_args_is_help=True, help="Bearer tokens, beside the shared BZ_AUTH_TOKEN.")
app.add_typer(token, name="token")

Url = Annotated[str | None, typer.Option(help="Base URL of the mount; default: the laptop's.")]
Token = Annotated[str | None, typer.Option(help="Bearer token; default: BZ_AUTH_TOKEN.")]
_PUBLISH = "experts-publish"
_TOKEN_BYTES = 24
_DAY = 24 * 3600
_MOST_DAYS = 36500
_NOT_COPIED_YET = 25  # blocks that a chain may be ahead of its copy


@app.command()
def publish(
    model: Annotated[str, typer.Option(help="A .safetensors file, a folder of shards, or s3://bucket/key.")],
    assignment: Annotated[Path, typer.Option(help="JSON: group → layer → pairs of local and global ids.")],
    version: Annotated[str, typer.Option(help="Name of the version, such as step_1000.")],
    block: Annotated[
        int,
        typer.Option(
            help="Chain block of the version; higher than the served one's, no higher than the chain's.", min=0
        ),
    ],
    base_model: Annotated[str, typer.Option(help="Name of the base model, for the files; default: the model's.")] = "",
    in_cloud: Annotated[bool, typer.Option("--in-cloud", help="Let the state machine do it.")] = False,
) -> None:
    """Cut a model into blocks and slices, then let readers see it; a second run goes on where the first stopped."""
    cloud.connect()
    _check_block(block)
    groups = _assignment(assignment)
    base_model = base_model or model.rstrip("/").rpartition("/")[2].removesuffix(".safetensors")
    try:
        uri = model if model.startswith("s3://") else experts_transfer.upload_model(Path(model))
        made = tasks_publishing.plan(uri, groups, model_version=version, block_number=block, base_model=base_model)
        if in_cloud:  # planned here too: what is refused is told in words
            _publish_in_cloud(uri, groups, version, block, base_model)
            return
        total = sum(source.size for source in made.sources) * 2
        with terminal.progress("publishing", total, of_bytes=True) as advance:
            for name in tasks_publishing.objects(made):
                tasks_publishing.build(made, name, advance)
        manifest = tasks_publishing.finish(made)
    except BrokenFile as error:
        terminal.refuse(str(error), code="broken_model")
    tasks_rounds.write_overview()
    _tell_published(manifest)


def _check_block(block: int) -> None:
    """A version's block is one that the chain has seen: every later version needs a higher one. A chain that nobody
    has read forbids nothing, nor does the laptop's, which moves on when it is told to.
    """
    head = chain.head()
    if head is None:
        return
    now = domain.block_by_now(head.block, clock.now() - head.observed_at, ExpertsSettings.current().block_seconds)
    if block <= now + _NOT_COPIED_YET:
        return
    text = f"block {block} is above the chain's newest one, {head.block}: every later version has to be above it too"
    if not _is_local():
        terminal.refuse(text, code="block_not_reached")
    terminal.say(text)


def _is_local() -> bool:
    kernel = KernelSettings.current()
    return kernel.environment != "production" and kernel.stage == "local"


def _assignment(path: Path) -> Any:
    try:
        return codec.decode(path.read_bytes(), refuse_duplicates=True)
    except (OSError, codec.BadJson) as error:
        terminal.refuse(f"{path} holds no assignment: {error}", code="bad_assignment")


def _tell_published(manifest: dict[str, Any]) -> None:
    answer = {
        "version_id": manifest["version_id"],
        "model_version": manifest["model_version"],
        "block_number": manifest["block_number"],
        "full_bytes": manifest["full"]["bytes"],
        "groups": {
            str(group): {
                name: manifest["wires"][f"group_{group}"][name] for name in ("bytes", "content_hash", "tensors")
            }
            for group in manifest["groups"]
        },
    }
    words = f"{answer['model_version']} of block {answer['block_number']} is served: {len(answer['groups'])} groups"
    terminal.result(answer, human=words)


def _publish_in_cloud(uri: str, groups: Any, version: str, block: int, base_model: str) -> None:
    event = {"model": uri, "assignment": groups, "version": version, "block": block, "base_model": base_model}
    name = f"{block}-{secrets.token_hex(8)}"
    flows.start(_PUBLISH, name, event)
    with terminal.progress("publishing in the cloud", None) as advance:
        while (status := flows.status(_PUBLISH, name)) == flows.RUNNING:
            time.sleep(0.5)
            advance(0)
    if status != "SUCCEEDED":
        terminal.refuse(f"the state machine ended {status}; its log is in execution {name}", code="publish_failed")
    manifest = store.current()
    assert manifest is not None  # the flow has just moved the pointer
    _tell_published(manifest)


@app.command()
def phase(
    to: Annotated[str | None, typer.Option("--set", help="Local mode: move the chain file on to this phase.")] = None,
) -> None:
    """Phase and block as the API sees them."""
    cloud.connect()
    clockwork = tasks_rounds.clockwork()
    if to is not None:
        _move_chain(clockwork, to)
    head = chain.head()
    block = head.block if head else 0
    found = clockwork.at(block)
    answer = {
        "phase": found.name, "phase_detail": found.detail, "block": block, "blocks_remaining": found.last - block,
        "next_submit_block": clockwork.next_start(domain.SUBMIT, block),
    }  # fmt: skip
    terminal.result(answer, human=f"{found.name} ({found.detail}) at block {block}, {found.last - block} blocks left")


def _move_chain(clockwork: domain.Cycle, to: str) -> None:
    """The chain file is the laptop's chain; time there only goes forward."""
    if to not in clockwork.names:
        terminal.refuse(f"--set takes {', '.join(dict.fromkeys(clockwork.names))}", code="unknown_phase")
    if not _is_local():
        terminal.refuse("--set works in local mode only", code="not_local")
    flows.invoke("chain-tick", {"run": "chain"})
    head = chain.head()
    block = head.block if head else 0
    if clockwork.at(block).name != to:
        there = {"block": clockwork.next_start(to, block), "block_at": int(time.time())}
        cloud.change_chain_file(lambda content: content | there)
        flows.invoke("chain-tick", {"run": "chain"})


@app.command()
def download(
    group: Annotated[int, typer.Option(help="Expert group.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: a safetensors file.")],
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    address: Annotated[str | None, typer.Option("--address", help="SS58 hotkey, instead of a wallet.")] = None,
    content: Annotated[str, typer.Option(help="experts, shared or experts+shared.")] = "experts",
    keep_envelope: Annotated[bool, typer.Option("--keep-envelope", help="Write the slice as it is served.")] = False,
    url: Url = None,
    bearer: Token = None,
) -> None:
    """Fetch a group's slice: in parallel, resumable, checked against its hash before it gets its name."""
    if address is not None:
        _check_hotkey(address)
    caller = address or wallets.load(wallet_name, hotkey, wallet_path).address
    experts = clients.Experts(cloud.api_url(url, "experts"), _token(bearer))
    found = experts_transfer.download(experts, group, caller, content, out, keep_envelope=keep_envelope)
    terminal.result(
        found, human=f"{found['model_version']} of block {found['block_number']}: {out} ({found['bytes']} bytes)"
    )


@app.command()
def submit(
    checkpoint_url: Annotated[str, typer.Argument(help="https URL of the checkpoint.")],
    group: Annotated[int, typer.Option(help="Expert group.")],
    block: Annotated[int | None, typer.Option(help="Block at which training ended; default: the current one.")] = None,
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    url: Url = None,
    bearer: Token = None,
) -> None:
    """Hand in a checkpoint, signed by the wallet."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    experts = clients.Experts(cloud.api_url(url, "experts"), _token(bearer), signer)
    named = experts.health()["current_block"] if block is None else block
    answer = experts.submit(group, checkpoint_url, named)
    blocks = answer["evaluation_eta_blocks"]
    terminal.result(answer, human=f"accepted as {answer['submission_id']}; evaluated in about {blocks} blocks")


@app.command()
def status(
    submission_id: Annotated[str, typer.Argument(help="As `experts submit` printed it.")],
    url: Url = None,
    bearer: Token = None,
) -> None:
    """What became of a submission."""
    experts = clients.Experts(cloud.api_url(url, "experts"), _token(bearer))
    answer = experts.submission(submission_id)
    reason = f": {answer['reason']}" if answer["reason"] else ""
    score = f", score {answer['score']:.6g}" if answer["score"] is not None else ""
    merged = f", merged into {answer['merged_into']}" if answer["merged_into"] else ""
    terminal.result(answer, human=f"{answer['state']}{reason}{score}{merged}")


@app.command()
def versions() -> None:
    """Published versions, the newest first."""
    cloud.connect()
    served = store.current()
    found = [
        {
            "version_id": version["sk"],
            "model_version": version["model_version"],
            "block_number": version["block_number"],
            "full_bytes": version["full"]["bytes"],
            "served": bool(served and served["version_id"] == version["sk"]),
        }
        for version in reversed(store.versions())
    ]
    terminal.rows(found, ("version_id", "model_version", "block_number", "full_bytes", "served"))


@app.command()
def rollback(version_id: Annotated[str, typer.Argument(help="As `experts versions` shows it.")]) -> None:
    """Serve an older version again."""
    cloud.connect()
    target, served = store.version(version_id), store.current()
    if target is None or served is None:
        terminal.refuse(f"there is no version {version_id}", code="version_not_found")
    names = set(target) - {"pk", "sk", "status", "published_at"}
    try:
        store.flip({name: target[name] for name in names}, base=served["version_id"], force=True)
    except store.Overtaken:
        terminal.refuse("another version was published in the meantime", code="overtaken")
    tasks_rounds.write_overview()
    terminal.result({"served": version_id}, human=f"{target['model_version']} is served again")


@token.command("create")
def token_create(
    hotkey: Annotated[str | None, typer.Option(help="Bind the token to this hotkey.")] = None,
    days: Annotated[float | None, typer.Option(help="How long it is good; default: until it is revoked.")] = None,
) -> None:
    """Print a new token once."""
    cloud.connect()
    if hotkey is not None:
        _check_hotkey(hotkey)
    if days is not None and not 0 < days <= _MOST_DAYS:
        terminal.refuse(f"--days is above 0 and at most {_MOST_DAYS}", code="bad_field")
    made = secrets.token_urlsafe(_TOKEN_BYTES)
    expires = None if days is None else time.time() + days * _DAY
    store.register_token(tokens.digest(made), hotkey, expires)
    terminal.say("keep it: it is not shown again")
    terminal.result(made)


@token.command("revoke")
def token_revoke(value: Annotated[str, typer.Argument(help="The token itself.")]) -> None:
    """From the next request on the token is refused."""
    cloud.connect()
    store.revoke_token(tokens.digest(value))
    terminal.result({"revoked": hashlib.sha256(value.encode()).hexdigest()[:12]}, human="revoked")


def _check_hotkey(text: str) -> None:
    try:
        keys.public_key(text)
    except keys.BadAddress as error:
        terminal.refuse(f"{text} is not an SS58 address of this network: {error}", code="bad_hotkey")


def _token(given: str | None) -> str:
    found = (given,) if given else ExpertsSettings.current().bz_auth_token
    if not found:
        terminal.refuse("which token? Give --bearer, or set BZ_AUTH_TOKEN", code="no_token")
    if not (found[0].isascii() and found[0].isprintable()):
        terminal.refuse("a token is printable ASCII", code="bad_token")
    return found[0]
