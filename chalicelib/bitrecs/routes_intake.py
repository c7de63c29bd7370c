"""The path of a submission, step by step in the specified order; the first step that fails is the answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import chain, clock, flows
from chalicelib.kernel.errors import Conflict, Invalid, Refusal, Unavailable
from chalicelib.kernel.http import STATUS, Request
from chalicelib.kernel.tables import ConditionFailed, until_decided
from chalicelib.kernel.values import frozen

from . import (
    domain,
    domain_artifact,
    domain_gist,
    domain_policy,
    domain_stages,
    routes_github,
    similarity,
    store,
    store_work,
    tasks_index,
    tasks_sets,
)
from . import routes_proof as proof
from .contracts import Accepted, Artifact, BitrecsSettings, Checked, Gist, Similar, Submission
from .routes_gate import limit

_CONTENTION_SECONDS = 4.0
_MICROSECONDS = 10**6
_FEW_AGENTS = 500


@dataclass
class Attempt:
    """One submission on its way; what later steps need from earlier ones."""

    request: Request
    body: Submission
    settings: BitrecsSettings
    until: float
    known: store.Known
    standing: domain.Standing
    kind: str
    size: int = 0
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return max(0.0, self.until - clock.monotonic())


@frozen
class Examined:
    """A gist that passed: the one look at it, its content, and the artifact in it."""

    gist: Gist
    content: str
    artifact: Artifact
    parts: tuple[str, str, str]
    fingerprint: str


def check(request: Request) -> Checked:
    """Everything that can be known before the miner commits on chain; nothing is written but counters."""
    attempt = _begin(request, "check")
    key = proof.public_key(attempt.body.hotkey)
    proof.verify_payload(attempt.body, key, settings=attempt.settings, refusal="Invalid signature for submission")
    domain.check_no_validator(attempt.standing)
    _check_standing(attempt)
    examined = _examine(attempt)
    _check_similarity(attempt, examined)
    return Checked()


def submit(request: Request) -> Accepted:
    """The authoritative path: it ends with one transaction, or with nothing at all."""
    attempt = _begin(request, "submit")
    transport = proof.transport(request)
    settings = attempt.settings
    domain.check_timestamp(transport.timestamp, now=clock.now(), drift=settings.timestamp_drift_seconds)
    key = proof.public_key(attempt.body.hotkey)
    scheme, request.notes["transport_version"] = proof.verify_transport(attempt.body, key, transport, settings)
    proof.verify_payload(attempt.body, key, settings=settings, refusal="Invalid submission signature", scheme=scheme)
    try:
        seconds = settings.nonce_ttl_seconds + settings.timestamp_drift_seconds
        if not store.burn_nonces(attempt.body.hotkey, transport.nonce, transport.t_nonce, seconds=seconds):
            raise domain.duplicate(domain.CONFLICT_STATUS)
        return _accept(attempt)
    except Refusal as refusal:
        _audit(attempt, refusal)
        raise


def _begin(request: Request, kind: str) -> Attempt:
    settings = BitrecsSettings.current()
    until = clock.monotonic() + settings.request_budget_seconds
    body = _parsed(request, settings)
    limit(request, settings.rate_limit_submit_per_min)
    known, standing = _look_up(body, settings)
    domain.check_open(standing, settings)
    return Attempt(request, body, settings, until, known, standing, kind)


def _parsed(request: Request, settings: BitrecsSettings) -> Submission:
    """One line about the first problem, whatever the number of problems."""
    try:
        return request.read_body(Submission)
    except Invalid as invalid:
        problem: Any = invalid.detail[0] if isinstance(invalid.detail, list) else {}
        raise domain.invalid_body(problem, settings.validation_status) from None


def _look_up(body: Submission, settings: BitrecsSettings) -> tuple[store.Known, domain.Standing]:
    now = clock.now()
    interval = int(now // settings.artifact_interval_seconds)
    known = store.known(body.hotkey, body.gist_id, interval)
    current = known.current_set or tasks_sets.first_set()
    timeout = settings.validator_heartbeat_timeout_seconds
    standing = domain.Standing(
        enabled=settings.submissions_enabled if known.enabled is None else known.enabled,
        validators=domain_stages.connected_validators(store_work.live_sessions(known.live), now, timeout),
        accepted=known.accepted,
        interval_ends_in=(interval + 1) * settings.artifact_interval_seconds - now,
        set_id=current["set_id"],
        cycle_block=current["first_block"],
        is_validator=known.is_validator,
        ban=known.ban,
        hotkey_lock=known.hotkey_lock,
        gist_lock=known.gist_lock,
    )
    return known, standing


def _accept(attempt: Attempt) -> Accepted:
    domain.check_no_validator(attempt.standing)
    if not attempt.settings.strict_check_order:
        _check_standing(attempt)
    examined = _examine(attempt)
    if attempt.settings.strict_check_order:
        _check_standing(attempt)
    neuron: chain.Neuron = attempt.found["neuron"]
    temporary_key = _temporary_key(attempt, examined.artifact)
    domain.check_payment(neuron.balance_rao, attempt.settings)
    block = _revealed(attempt, examined)
    domain.check_uid(neuron.uid)
    similar = _unlike_others(attempt, examined)
    agent_id = _store(attempt, examined, block, temporary_key)
    enabled = attempt.settings.similarity_mode != "off"
    return Accepted(
        artifact_id=agent_id,
        request_id=attempt.request.id,
        similarity_check="enabled" if enabled else "disabled",
        similar_results=similar,
    )


def _check_standing(attempt: Attempt) -> None:
    """Locks, ban, registration: known before any network call, and reported before it unless the order is strict."""
    settings = attempt.settings
    dry = attempt.kind == "check"
    domain.check_locks(attempt.standing, settings, now=clock.now(), dry=dry)
    domain.check_ban(attempt.standing)
    snapshot = _snapshot(attempt)
    if not dry and clock.now() - snapshot.synced_at > settings.chain_stale_seconds:
        raise domain.chain_unavailable()
    neuron = snapshot.subnet.by_hotkey.get(attempt.body.hotkey)
    domain.check_registered(registered=neuron is not None)
    attempt.found["neuron"] = neuron


def _snapshot(attempt: Attempt) -> chain.Snapshot:
    try:
        snapshot = chain.snapshot_of("bitrecs", attempt.known.snapshot)
    except RuntimeError:
        snapshot = None
    if snapshot is None:
        raise domain.chain_unavailable()
    return snapshot


def _examine(attempt: Attempt) -> Examined:
    body, settings = attempt.body, attempt.settings
    gist = _gist(attempt)
    content = domain_gist.check_gist(gist, body, settings, now=clock.now())
    assert gist is not None
    attempt.size = len(content.encode())
    artifact = domain_artifact.parse(content)
    domain.check_no_agent_id(present=artifact.has_agent_id)
    domain_policy.check_policy(artifact, content, domain.policy_limits(settings))
    domain_gist.check_created_at(gist, body)
    domain.check_owner(artifact.miner_hotkey, body)
    parts = similarity.pieces_of(artifact)
    return Examined(gist, content, artifact, parts, similarity.fingerprint(parts))


def _gist(attempt: Attempt) -> Gist | None:
    """A look kept for a minute, so that /check and /submit cost one; older, only the question whether it changed."""
    settings, kept = attempt.settings, attempt.known.gist
    if kept and clock.now() - kept["at"] < settings.gist_cache_seconds:
        return store.gist_of(kept)
    wait = store.wait_for(f"GIST#{attempt.body.hotkey}", settings.gist_fetches_per_min)
    if wait:
        raise domain.rate_limited(settings.gist_fetches_per_min, wait)
    etag = kept["etag"] if kept else ""
    look = routes_github.look_at(attempt.body.gist_id, settings, deadline=attempt.until, etag=etag)
    gist = store.gist_of(kept) if look.unchanged and kept else look.gist
    if domain_gist.is_storable(gist):
        store.keep_gist(attempt.body.gist_id, gist, look.etag)
    return gist


def _temporary_key(attempt: Attempt, artifact: Artifact) -> str | None:
    if artifact.provider.upper() != "OPEN_ROUTER":
        return None
    key = domain.temporary_key(attempt.request.header("x-ortk"))
    if attempt.settings.openrouter_key_check:
        routes_github.check_key(key, attempt.settings, deadline=attempt.until)
    return key


def _revealed(attempt: Attempt, examined: Examined) -> int | None:
    """The block of the commitment; one that is not there yet is looked for again as long as the budget lasts."""
    settings = attempt.settings
    if not settings.commitment_check:
        return None
    expected = domain.commitment_of(examined.gist, examined.content)
    snapshot = _snapshot(attempt)
    for _ in range(settings.commitment_attempts - 1):
        if _reveals(attempt, snapshot):
            break
        pause = settings.commitment_retry_seconds
        if attempt.left < pause + settings.similarity_timeout_seconds + _CONTENTION_SECONDS:
            raise domain.chain_unavailable(retry_after=pause)
        clock.sleep(pause)
        snapshot = chain.snapshot("bitrecs") or snapshot
    single = settings.commitment_require_single and snapshot.subnet.netuid != domain.TESTNET
    return domain.reveal_block(_reveals(attempt, snapshot), expected, single=single)


def _reveals(attempt: Attempt, snapshot: chain.Snapshot) -> list[tuple[int, str]]:
    head = chain.head_of(attempt.known.head)
    block = max(snapshot.block, head.block if head else 0)
    own = snapshot.subnet.commitments_of.get(attempt.body.hotkey, ())
    reveals = [(one.block, one.data) for one in own]
    return domain.reveals_of_cycle(reveals, attempt.standing, block, attempt.settings.lock_scope)


def _check_similarity(attempt: Attempt, examined: Examined) -> list[Similar]:
    """An exact copy is known at once and for certain; near ones are what the index finds, within its time."""
    settings = attempt.settings
    attempt.found["vector"] = bytes(similarity.vector(examined.parts))
    if settings.similarity_mode == "off":
        return []
    if not attempt.known.agents:
        return []
    first = store.first_with(examined.fingerprint)
    exact = [Similar(agent_id=first, distance=0.0)] if first else []
    if exact and settings.similarity_mode == "enforce":
        raise domain.too_similar(exact, settings)
    near = _near(attempt)
    others = [one for one in near if one.agent_id != first]
    return domain.check_similar([*exact, *others][: settings.similarity_max_results], settings)


def _unlike_others(attempt: Attempt, examined: Examined) -> list[Similar]:
    """A parallel copy of this very submission may be the agent that it resembles; then it is a repetition."""
    try:
        return _check_similarity(attempt, examined)
    except Conflict:
        attempt.known, attempt.standing = _look_up(attempt.body, attempt.settings)
        _check_standing(attempt)
        raise


def _near(attempt: Attempt) -> list[Similar]:
    settings = attempt.settings
    seconds = min(settings.similarity_timeout_seconds, attempt.left)
    question = {"vector": base64.b64encode(attempt.found["vector"]).decode()}
    try:
        if seconds < settings.similarity_timeout_seconds / 10:
            raise domain.similarity_unavailable()
        near = flows.invoke("bitrecs-similarity", question, seconds=seconds)["near"]
    except (Unavailable, flows.TaskFailed):
        if settings.similarity_fail_open:
            return []
        near = _near_of_few(attempt)
    return [Similar(agent_id=agent, distance=distance) for agent, distance in near]


def _near_of_few(attempt: Attempt) -> list[list[Any]]:
    """A container that starts too slowly stops nobody as long as the index is small."""
    if attempt.known.agents > _FEW_AGENTS or attempt.left < _CONTENTION_SECONDS:
        raise domain.similarity_unavailable()
    try:
        return tasks_index.search_few(attempt.found["vector"])
    except (tasks_index.IndexOutdated, tasks_index.IndexIncomplete):
        raise domain.similarity_unavailable() from None


def _store(attempt: Attempt, examined: Examined, block: int | None, temporary_key: str | None) -> str:
    """Exactly one of those who try at the same moment stores its agent; the others learn why not."""
    agent_id = clock.new_uuid()

    def decide() -> str:
        new = _new_agent(attempt, examined, agent_id, block, temporary_key)
        try:
            store.accept(new)
        except ConditionFailed:
            _explain_lost_race(attempt, examined)
        return agent_id

    seconds = min(_CONTENTION_SECONDS, attempt.left)
    return until_decided(decide, seconds=seconds)


def _explain_lost_race(attempt: Attempt, examined: Examined) -> None:
    attempt.known, attempt.standing = _look_up(attempt.body, attempt.settings)
    domain.check_open(attempt.standing, attempt.settings)
    _check_standing(attempt)
    first = store.first_with(examined.fingerprint)
    if first and attempt.settings.similarity_mode == "enforce":
        raise domain.too_similar([Similar(agent_id=first, distance=0.0)], attempt.settings)
    raise domain.duplicate(attempt.settings.duplicate_status)


def _new_agent(
    attempt: Attempt, examined: Examined, agent_id: str, block: int | None, temporary_key: str | None
) -> store.NewAgent:
    settings, artifact, now = attempt.settings, examined.artifact, clock.now()
    neuron: chain.Neuron = attempt.found["neuron"]
    created = f"{int(now * _MICROSECONDS):017d}"
    meta = {
        "agent_id": agent_id,
        "miner_hotkey": artifact.miner_hotkey,
        "miner_uid": neuron.uid,
        "coldkey": neuron.coldkey,
        "name": artifact.name,
        "version_num": artifact.version_num,
        "status": "screening_1",
        "created": created,
        "created_at": now,
        "request_id": attempt.request.id,
        "provider": artifact.provider.upper(),
        "model": artifact.model,
        "gist_id": attempt.body.gist_id,
        "github_account": attempt.body.github_account,
        "gist_created_at": examined.gist.created_at,
        "commit_sha": examined.gist.history[0].version if examined.gist.history else "",
        "content_sha256": domain.sha256_of(examined.content),
        "norm_sha256": examined.fingerprint,
        "reveal_block": block,
        "set_id": attempt.standing.set_id,
        "final_score": None,
    }
    hidden = artifact.model_dump(
        include={
            "system_prompt_template", "user_prompt_template", "sampling_params", "fewshot_examples", "eval_scores"
        }
    )  # fmt: skip
    entry = domain_stages.first_entry(agent_id, artifact.miner_hotkey, created, now)
    audit = store.attempt(
        "submit", attempt.request.id, artifact.miner_hotkey, 201, "", ip=attempt.request.ip, size=attempt.size
    )
    return store.NewAgent(
        meta=meta,
        artifact=hidden,
        raw=examined.content.encode(),
        fingerprint=examined.fingerprint,
        vector=attempt.found["vector"],
        queue_entry=store_work.entry_item(entry),
        bucket=int(now // settings.artifact_interval_seconds),
        interval_seconds=settings.artifact_interval_seconds,
        most_per_interval=settings.artifacts_per_interval,
        lock_scope=settings.lock_scope,
        content_is_unique=settings.similarity_mode == "enforce",
        attempt=audit,
        temporary_key=temporary_key,
    )


def _audit(attempt: Attempt, refusal: Refusal) -> None:
    """Only signed attempts are recorded, so strangers cannot write; a store that does not answer loses the record."""
    status = next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)
    item = store.attempt(
        attempt.kind, attempt.request.id, attempt.body.hotkey, status, str(refusal.detail),
        ip=attempt.request.ip, size=attempt.size,
    )  # fmt: skip
    try:
        store.record(item)
    except Unavailable:
        attempt.request.notes["audit"] = "lost"
