"""Experts' HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.kernel import chain, clock, codec, flows, keys, tokens
from chalicelib.kernel.errors import (
    Malformed,
    NotFound,
    Refusal,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.routing import Auth, Router
from chalicelib.kernel.settings import KernelSettings
from chalicelib.kernel.wire import Item

from . import addresses, domain, routes_delivery, store
from .contracts import Accepted, ExpertsSettings, FetchSettings, Health, NewSubmission, SubmissionStatus

MACHINE = "experts-submission"
_NO_STORE = {"Cache-Control": "no-store"}
_GATEWAY_BODY = 10 * 1024 * 1024
_JSON_TYPES = {"", "application/json"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _rephrase(refusal: Refusal) -> Refusal:
    """Refusals are never cached; a body over the limit is a 400 here."""
    refusal.headers.setdefault("Cache-Control", "no-store")
    if isinstance(refusal, TooLarge):
        return Malformed("The body is too large", code="body_too_large", headers=refusal.headers)
    return refusal


api = Router(
    "experts",
    "Experts",
    "Expert-group slices of a mixture-of-experts model, the full model, checkpoint submissions and phases.",
    max_body=_GATEWAY_BODY,
    rephrase=_rephrase,
)


def _bearer(request: Request) -> routes_delivery.Caller:
    """A configured token, or a registered one; while there is neither, every request is refused."""
    token = tokens.bearer(routes_delivery.joined(request, "authorization"))
    if token is not None:
        digest = tokens.digest(token)
        if tokens.is_one_of(token, ExpertsSettings.current().bz_auth_token):
            return routes_delivery.Caller(digest)
        registered = store.token(digest)
        if registered:
            return routes_delivery.Caller(digest, registered["hotkey"])
    raise Unauthenticated("Missing or invalid auth token", code="unauthorized", headers={"WWW-Authenticate": "Bearer"})


bearer = Auth(_bearer, "bearer", {"Authorization": "`Bearer <BZ_AUTH_TOKEN>`"}, {401: "Missing or invalid auth token."})


@api.get("/health")
def health() -> Health:
    """Whether a model is loaded, the newest block and the phase it falls into; what was last seen while tables hang."""
    try:
        (head, model), reachable = store.head_and_model(), True
    except (Unavailable, RuntimeError):
        (head, model), reachable = store.last_seen(), False
    settings = ExpertsSettings.current()
    block = head.block if head else 0
    phase = routes_delivery.clockwork().at(block)
    age = max(0.0, clock.now() - head.observed_at) if head else None
    fresh = age is not None and age <= settings.head_max_age_s
    return Health(
        status="healthy" if reachable and model and fresh else "degraded",
        model_loaded=model is not None,
        current_block=block,
        phase=phase.name,
        phase_detail=phase.detail,
        blocks_remaining=phase.last - block,
        model_version=model["model_version"] if model else None,
        block_age_s=round(age, 3) if age is not None else None,
    )


_PARTIAL = {
    400: "A header is missing or malformed.",
    404: "No such expert group.",
    429: "More URLs than one caller gets in a cycle.",
    503: "The model has not finished loading.",
}


@api.route("HEAD", "/model/partial", auth=bearer, refusals=_PARTIAL, listed=False)
@api.get("/model/partial", auth=bearer, refusals=_PARTIAL)
def partial(request: Request, caller: routes_delivery.Caller) -> Answer:
    """An expert group's slice: its bytes, a redirect to them, or JSON with their URL."""
    return routes_delivery.partial(request, caller)


_FULL = {403: "The requester's hotkey is not registered as a validator.", 503: "The model has not finished loading."}


@api.route("HEAD", "/model/full", auth=bearer, refusals=_FULL, listed=False)
@api.get("/model/full", auth=bearer, refusals=_FULL)
def full(request: Request, caller: routes_delivery.Caller) -> Answer:
    """The whole model as one safetensors file, for validators; JSON lists its blocks."""
    return routes_delivery.full(request, caller)


@api.post(
    "/submit", auth=bearer, status=202, headers=_NO_STORE, body=NewSubmission,
    refusals={400: "Malformed body or invalid signature.", 409: "Duplicate submission for this hotkey and block.",
              423: "Not currently in submit phase."},
)  # fmt: skip
def submit(request: Request) -> Accepted:
    """Hand in a checkpoint by URL; the answer comes when it is queued for good."""
    settings = ExpertsSettings.current()
    given = domain.fields(_json(request, settings.submit_body_max))
    key = keys.public_key(routes_delivery.hotkey_of(given.hotkey))
    target = _target(given.checkpoint_url)
    _check_signature(key, given)
    world, intake = store.intake(key.hex(), given.block_number)
    clockwork_now, now = routes_delivery.clockwork(), clock.now()
    domain.check_head(world.head.observed_at if world.head else None, now=now, oldest=settings.head_max_age_s)
    assert world.head is not None
    block = world.head.block
    if settings.phase_extrapolate:
        block = domain.block_by_now(block, now - world.head.observed_at, settings.block_seconds)
    domain.check_phase(clockwork_now, block, settings.block_seconds)
    neuron = _registered(world, given, now)
    domain.check_block(clockwork_now, given.block_number, block, strict=settings.block_window == "strict")
    if intake.earlier:
        raise domain.duplicate(intake.earlier)
    record = {
        "submission_id": clock.new_uuid(), "pubkey": key.hex(), "hotkey": given.hotkey, "uid": neuron.uid,
        "group": given.expert_group, "url": given.checkpoint_url, "suffix": target.suffix,
        "block_number": given.block_number, "cycle": clockwork_now.number(block),
        "version_id": (world.model or {})["version_id"],
    }  # fmt: skip
    _accept(record, clockwork_now, now)
    seconds = intake.seconds_each or settings.eval_seconds_est
    held = clockwork_now.end_of(domain.SUBMIT, block) - block if settings.eval_start == "validate" else 0
    eta = held + domain.eta_blocks(intake.waiting, seconds, settings.eval_parallelism, settings.block_seconds)
    return Accepted(submission_id=record["submission_id"], evaluation_eta_blocks=min(eta, clockwork_now.length))


def _json(request: Request, largest: int) -> Any:
    if len(request.body) > largest:
        raise Malformed(f"The body is larger than {largest} bytes", code="body_too_large")
    kind = (request.header("content-type") or "").split(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise Malformed("The body is application/json", code="bad_json")
    try:
        return codec.decode(request.body, refuse_duplicates=True)
    except codec.BadJson as error:
        raise Malformed(f"The body is no JSON: {error}", code="bad_json") from None


def _target(url: str) -> addresses.Target:
    settings = FetchSettings.current()
    try:
        return addresses.target(
            url, ports=[int(port) for port in settings.fetch_ports], any_suffix=settings.fetch_any_suffix,
            allow_this_host=KernelSettings.current().may_fetch_from_this_host(), own_domains=settings.own_domains,
        )  # fmt: skip
    except addresses.BadUrl as error:
        raise Malformed(f"checkpoint_url: {error}", code="bad_url") from None


def _check_signature(key: bytes, given: domain.Fields) -> None:
    settings = ExpertsSettings.current()
    try:
        raw = keys.signature_from_base64url(given.signature)
    except keys.BadSignature as error:
        raise Malformed(str(error), code="bad_signature_encoding") from None
    message = domain.signed_message(given, settings.submit_message_format)
    if not keys.verify(key, message, raw, schemes=settings.signature_schemes):
        raise Malformed("The signature does not fit the submission", code="bad_signature")


def _registered(world: store.World, given: domain.Fields, now: float) -> chain.Neuron:
    settings, snapshot = ExpertsSettings.current(), world.metagraph
    domain.check_metagraph(snapshot.synced_at if snapshot else None, now=now, oldest=settings.metagraph_max_age_s)
    neuron = snapshot.subnet.by_hotkey.get(given.hotkey) if snapshot else None
    groups = world.groups if world.model else None
    domain.check_submittable(given.expert_group, groups, registered=neuron is not None)
    own = routes_delivery.registered_group(snapshot, given.hotkey)
    if settings.enforce_group_assignment and own not in {None, given.expert_group}:
        raise Malformed("This hotkey is registered for another group", code="bad_field")
    assert neuron is not None
    return neuron


def _accept(record: Item, clockwork_now: domain.Cycle, now: float) -> None:
    """Write first, then nudge: a flow that does not start is started by the sweep."""
    settings = ExpertsSettings.current()
    ttl = int(now + settings.dedupe_ttl_cycles * clockwork_now.length * settings.block_seconds)
    try:
        store.accept(record, dedupe_ttl=ttl, limit=settings.max_submissions_per_cycle)
    except store.Duplicate as taken:
        raise domain.duplicate(taken.submission_id) from None
    except store.OverLimit:
        raise domain.too_many(settings.max_submissions_per_cycle) from None
    store.count_in()
    if settings.eval_start == "immediate":
        flows.start_or_leave(MACHINE, record["submission_id"], {"submission_id": record["submission_id"]})


@api.get("/submission/{submission_id}", auth=bearer, refusals={404: "No such submission."})
def submission(submission_id: str) -> SubmissionStatus:
    """What became of a submission, and why."""
    if not ExpertsSettings.current().submission_status_route or not _UUID.fullmatch(submission_id):
        raise NotFound("There is no such submission", code="submission_not_found")
    return status_of(store.submission(submission_id))


def status_of(item: Item) -> SubmissionStatus:
    """A submission as its miner sees it."""
    return SubmissionStatus(
        **{name: item.get(name) for name in SubmissionStatus.model_fields}
        | {"expert_group": item["group"], "updated_at": clock.stamp_seconds(item["updated_at"])}
    )


@api.get("/overview", auth=bearer)
def overview() -> Answer:
    """Versions, groups, phases and submissions in one summary, as old as the last look at the rounds."""
    found = store.overview()
    return Answer(found["raw"] if found else {"versions": [], "submissions": []}, headers=_NO_STORE)
