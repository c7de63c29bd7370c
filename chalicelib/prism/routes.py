"""PRISM's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Malformed, NotFound, Unauthenticated, Unavailable
from chalicelib.kernel.http import Request
from chalicelib.kernel.routing import Auth, Router
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.tokens import is_one_of

from . import domain, store, store_families, tasks_claim, tasks_finish
from .contracts import (
    ACCEPTED,
    MAX_HOTKEY,
    Architecture,
    ArchitectureQuery,
    AssignmentStatus,
    AssignmentView,
    BoardEntry,
    Epoch,
    Expired,
    Health,
    HoldQuery,
    HoldView,
    Leaderboard,
    OwnershipEvent,
    Polled,
    PrismSettings,
    Processed,
    Rejection,
    Resolution,
    Result,
    Step,
    SubmissionCreate,
    SubmissionCreated,
    SubmissionStatus,
    TrainingVariant,
    VariantQuery,
    Version,
    Weights,
)
from .routes_intake import (
    bridged_json,
    bridged_raw,
    check_is_json,
    created,
    miner,
    required_hotkey,
    shared_token,
    stored,
)

api = Router(
    "prism",
    "PRISM",
    "Model-project zips, their review, the attribution of architecture and training, validator assignments, weights.",
    too_large="submission too large",
)
INTERNAL = "/internal/v1"
VALIDATORS = f"{INTERNAL}/validators/assignments"
HOLDS = f"{INTERNAL}/component-review/holds"
_WEIGHTS_SECONDS = 5.0


def _check_token(request: Request, refusal: str) -> None:
    """Exactly `Bearer <token>`, the scheme in this spelling; closed when none is configured."""
    token = shared_token()
    if not token:
        raise Unavailable("Internal challenge token is not configured", code="token_not_configured")
    if request.repeats("authorization") or not is_one_of(request.header("authorization"), [f"Bearer {token}"]):
        raise Unauthenticated(refusal, code="invalid_internal_token")


def _internal(request: Request) -> None:
    _check_token(request, "invalid internal token")


def _platform(request: Request) -> None:
    _check_token(request, "Invalid internal authorization")
    settings = PrismSettings.current()
    slug = request.header("x-platform-challenge-slug")
    absent_is_fine = slug is None and not settings.weights_require_slug
    if not absent_is_fine and slug != settings.slug:
        raise Malformed("Invalid challenge slug header", code="invalid_slug")


_TOKEN_HEADER = {"Authorization": "`Bearer <shared token>`"}
_TOKEN_REFUSALS = {401: "Missing or wrong token.", 503: "No token is configured."}
internal = Auth(_internal, "platform", _TOKEN_HEADER, _TOKEN_REFUSALS)
platform = Auth(
    _platform, "platform",
    _TOKEN_HEADER | {"X-Platform-Challenge-Slug": "The challenge's slug, `prism`."},
    _TOKEN_REFUSALS | {400: "Another challenge's slug."},
)  # fmt: skip


@api.get("/health")
def health() -> Health:
    """Whether the service answers; no store is asked."""
    settings = PrismSettings.current()
    return Health(status="ok", slug=settings.slug, version=settings.version)


@api.get("/version")
def version() -> Version:
    """Challenge version, API version, SDK version, capabilities."""
    settings = PrismSettings.current()
    return Version(
        api_version=settings.api_version,
        challenge_version=settings.version,
        sdk_version=settings.sdk_version,
        capabilities=settings.capabilities,
    )


@api.post(
    "/v1/submissions",
    body=SubmissionCreate,
    refusals={
        400: "The timestamp is no number.",
        401: "Stale or invalid signature.",
        404: "Uploads are closed.",
        409: "The nonce was used.",
        413: "The code is too large.",
        422: "Not what the contract asks for.",
        429: "Too many pending.",
    },
)
def submit(request: Request) -> SubmissionCreated:
    """Upload a project, signed; the nonce is used up even if what follows is refused."""
    settings = PrismSettings.current()
    if not settings.public_submissions_enabled:
        raise NotFound("submission route disabled", code="submissions_disabled")
    check_is_json(request)
    hotkey = miner(request, settings)
    body = request.read_body(SubmissionCreate)
    return stored(body, hotkey, settings)


@api.get("/v1/submissions/{submission_id}", fresh_for=0, refusals={404: "There is no such submission."})
def submission(submission_id: str) -> SubmissionStatus:
    """Status and scores; source code is never returned."""
    found = store.get(submission_id)
    score = found.score
    return SubmissionStatus(
        **created(found),
        error=found.error,
        final_score=score.get("final_score"),
        q_arch=score.get("q_arch"),
        q_recipe=score.get("q_recipe"),
    )


@api.get("/v1/submissions/{submission_id}/timeline", fresh_for=0, refusals={404: "There is no such submission."})
def timeline(submission_id: str) -> list[Step]:
    """What a submission was, and since when; the first step first."""
    return [Step(status=status, at=clock.stamp(at)) for status, at in store.get(submission_id).timeline]


@api.get("/v1/leaderboard", fresh_for=0)
def leaderboard() -> Leaderboard:
    """Completed submissions of the current epoch, the best first, at most 50."""
    epoch_id = domain.epoch_id(clock.now(), PrismSettings.current().epoch_seconds)
    entries = [
        BoardEntry(rank=rank, hotkey=row["hotkey"], score=row["score"], submission_id=row["submission_id"])
        for rank, row in enumerate(store_families.leaderboard(epoch_id), 1)
    ]
    return Leaderboard(epoch_id=epoch_id, entries=entries)


@api.get("/v1/architectures", fresh_for=0)
def architectures(query: ArchitectureQuery) -> list[Architecture]:
    """Architecture families, the best first."""
    return [
        Architecture.model_validate(
            vars(family) | {"created_at": clock.stamp(family.created_at), "updated_at": clock.stamp(family.updated_at)}
        )
        for family in store_families.architectures(query.limit)
    ]


@api.get("/v1/architectures/{architecture_id}/history", fresh_for=0)
def history(architecture_id: str) -> list[OwnershipEvent]:
    """Who founded, trained and took over a family; the newest first, at most a hundred."""
    return [
        OwnershipEvent.model_validate(event | {"at": clock.stamp(event["at"])})
        for event in store_families.ownership(architecture_id)
    ]


@api.get("/v1/training-variants", fresh_for=0)
def training_variants(query: VariantQuery) -> list[TrainingVariant]:
    """Training variants, current best first."""
    return [
        TrainingVariant.model_validate(
            vars(found) | {"created_at": clock.stamp(found.created_at), "updated_at": clock.stamp(found.updated_at)}
        )
        for found in store_families.training_variants(query.architecture_id, query.limit)
    ]


@api.get("/v1/epochs/current", fresh_for=0)
def current_epoch() -> Epoch:
    """The running epoch and its length."""
    seconds = PrismSettings.current().epoch_seconds
    return Epoch(epoch_id=domain.epoch_id(clock.now(), seconds), epoch_seconds=seconds)


@api.get(f"{INTERNAL}/get_weights", auth=platform)
def weights() -> Weights:
    """Every hotkey's share of the total; computed anew when results or the epoch have changed."""
    settings = PrismSettings.current()
    now = clock.now()
    epoch_id = domain.epoch_id(now, settings.epoch_seconds)
    shares = [settings.architecture_reward_weight, settings.training_reward_weight]
    basis = {"epoch_id": epoch_id, "shares": shares, "components": settings.component_rewards_enabled}
    generation, kept = store_families.weights_state()
    if not kept or kept["generation"] != generation or any(kept[name] != value for name, value in basis.items()):
        kept = {**basis, "weights": _computed(settings, epoch_id), "computed_at": now}
        store_families.keep_weights(kept, generation)
    computed_at = clock.stamp(kept["computed_at"]).replace("Z", "+00:00")
    metadata = {"computed_at": computed_at, "epoch_id": str(epoch_id)}
    return Weights(challenge_slug=settings.slug, epoch=int(now), weights=kept["weights"], metadata=metadata)


def _computed(settings: PrismSettings, epoch_id: int) -> dict[str, float]:
    """Owners of components; only where there are none, the current epoch's scores."""
    found: dict[str, float] = {}
    if settings.component_rewards_enabled:
        found = domain.weights(
            store_families.component_rows(settings.architecture_reward_weight, settings.training_reward_weight)
        )
    return found or domain.weights(store_families.epoch_rows(epoch_id))


@api.post(
    f"{INTERNAL}/bridge/submissions",
    auth=internal,
    body=SubmissionCreate,
    refusals={400: "Not the JSON it claims to be.", 413: "Too large.", 422: "Not what the contract asks for."},
)
def bridge(request: Request) -> SubmissionCreated:
    """What the Platform verified: a project as JSON or as its raw bytes."""
    settings = PrismSettings.current()
    hotkey = required_hotkey(request, "X-Platform-Verified-Hotkey")
    request_id = (request.header("x-request-id") or "")[:MAX_HOTKEY]
    content_type = request.header("content-type") or ""
    body = bridged_json(request) if "application/json" in content_type.lower() else bridged_raw(request)
    return stored(body, hotkey, settings, request_id)


@api.post(f"{INTERNAL}/worker/process-next", auth=internal)
def process_next() -> Processed:
    """Claim the oldest pending submission, review it, start its evaluation."""
    return Processed(submission_id=tasks_claim.process_next())


@api.post(f"{INTERNAL}/worker/poll", auth=internal)
def poll() -> Polled:
    """Ids that ended since the last poll, each once; lost evaluations are taken up again."""
    tasks_claim.recover()
    return Polled(completed_submission_ids=store.take_done())


@api.get(HOLDS, auth=internal)
def holds(query: HoldQuery) -> list[HoldView]:
    """Attributions that waited or wait for an operator, the newest first."""
    return [
        HoldView.model_validate(
            vars(hold) | {"created_at": clock.stamp(hold.created_at), "updated_at": clock.stamp(hold.updated_at)}
        )
        for hold in store_families.holds(query.status, query.limit)
    ]


@api.post(
    f"{HOLDS}/{{hold_id}}/resolve",
    auth=internal,
    refusals={404: "No such pending hold, architecture or variant.", 409: "Against what stands.", 422: "No such way."},
)
def resolve(hold_id: str, body: Resolution) -> dict[str, Any]:
    """An operator's decision on a hold."""
    return tasks_finish.resolve(hold_id, body)


@api.post(f"{VALIDATORS}/next", auth=internal, refusals={403: "Not on the allow-list.", 422: "No validator hotkey."})
def next_assignment(request: Request) -> AssignmentView | None:
    """The validator's lease: the one it holds, else a new one, else null."""
    validator = required_hotkey(request, "X-Validator-Hotkey")
    domain.check_validator(validator, PrismSettings.current().validator_hotkeys)
    lease = until_decided(lambda: tasks_claim.next_assignment(validator))
    if not lease:
        return None
    found = store.get(lease.submission_id)
    return AssignmentView(
        id=lease.id, submission_id=lease.submission_id, validator_hotkey=lease.validator_hotkey,
        status=lease.status, attempt=lease.attempt, deadline_at=clock.stamp(lease.deadline_at),
        code=store.code(found.code_key), filename=found.filename, metadata=json.loads(found.metadata),
        code_hash=found.code_hash, arch_hash=lease.arch_hash,
    )  # fmt: skip


@api.post(f"{VALIDATORS}/expire", auth=internal)
def expire() -> Expired:
    """Take every overdue lease back; names, once, each submission that lost one since the last call."""
    return Expired(expired_submission_ids=tasks_claim.expired_submissions())


def _named_validator(request: Request) -> str | None:
    name = "X-Validator-Hotkey"
    needed = PrismSettings.current().assignments_require_validator_header
    return required_hotkey(request, name) if needed or request.header(name) is not None else None


_LEASE_REFUSALS = {403: "Another validator's lease.", 404: "No such assignment.", 409: "It is over."}


@api.post(f"{VALIDATORS}/{{assignment_id}}/accept", auth=internal, refusals=_LEASE_REFUSALS)
def accept(assignment_id: str, request: Request) -> AssignmentStatus:
    """The validator works on it; the deadline stays."""

    def decide() -> None:
        lease = store.assignment(assignment_id)
        domain.check_holder(lease, validator)
        domain.may_accept(lease)
        if lease.status != ACCEPTED:
            store.accept(lease, ACCEPTED)

    validator = _named_validator(request)
    until_decided(decide)
    return AssignmentStatus(status=ACCEPTED)


@api.post(f"{VALIDATORS}/{{assignment_id}}/reject", auth=internal, refusals=_LEASE_REFUSALS)
def reject(assignment_id: str, body: Rejection, request: Request) -> AssignmentStatus:
    """Give the lease back; the submission waits for another validator while attempts remain."""
    tasks_finish.reject_assignment(assignment_id, _named_validator(request), body.reason)
    return AssignmentStatus(status="rejected")


@api.post(f"{VALIDATORS}/{{assignment_id}}/result", auth=internal, refusals=_LEASE_REFUSALS)
def result(assignment_id: str, body: Result, request: Request) -> AssignmentStatus:
    """Score and attribute the submission by the validator's metrics."""
    tasks_finish.finish_assignment(assignment_id, _named_validator(request), body.metrics)
    return AssignmentStatus(status="completed")
