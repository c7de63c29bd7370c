"""How submissions end: scored and attributed, resolved by an operator, or lost by a validator. Part of `tasks`.

Every ending reads, decides and commits in one go, and does so again when somebody else was faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Conflict, NotFound
from chalicelib.kernel.tables import until_decided

from . import attribution, domain, store, store_commit, store_families, store_review
from .attribution import Choice, Event, Facts, Outcome
from .contracts import (
    COMPLETED,
    FAILED,
    GONE,
    HELD,
    MAX_ERROR,
    PENDING,
    REJECTED,
    RESOLVED,
    RUNNING,
    Assignment,
    Hold,
    PrismSettings,
    Resolution,
    Submission,
)
from .domain import Known, Score
from .store_commit import Ending


def score_of(submission: Submission, metrics: Mapping[str, float]) -> Score:
    """The worker's score: near-duplicates of others' earlier entrypoints lose, unlike ones win."""
    settings = PrismSettings.current()
    sketch = submission.review["sketch"]
    from .similarity import likeness  # noqa: PLC0415 - brings the parser along, which most requests never need

    others = [
        likeness(sketch, other["sketch"])
        for other in store_review.gallery()
        if other["hotkey"] != submission.hotkey and other["place"] < submission.place
    ]
    multiplier = domain.near_duplicate_multiplier(submission.review["near"], settings)
    return domain.score(metrics, settings, multiplier=multiplier, bonus=domain.diversity_bonus(others, settings))


def finish_evaluation(
    submission_id: str, execution: str, metrics: Mapping[str, float], multiplier: float, bonus: float
) -> str:
    """The worker's ending; a repeat finds it done."""

    def decide() -> str:
        submission = store.get_reviewed(submission_id)
        if submission.status != RUNNING or submission.holder != execution:
            return GONE
        score = domain.score(metrics, PrismSettings.current(), multiplier=multiplier, bonus=bonus)
        ending = dataclasses.replace(_attributed(submission, score), execution=execution)
        store_commit.commit(submission, ending)
        _hang(submission)
        return ending.status

    return until_decided(decide)


def fail_evaluation(submission_id: str, execution: str, error: str) -> str:
    """The worker's other ending, with a reason that its author can read."""

    def decide() -> str:
        submission = store.get(submission_id)
        if submission.status != RUNNING or submission.holder != execution:
            return GONE
        store_commit.commit(submission, Ending(FAILED, error[:MAX_ERROR], execution=execution))
        return FAILED

    return until_decided(decide)


def finish_assignment(assignment_id: str, validator: str | None, metrics: Mapping[str, float]) -> None:
    """A validator's result: multiplier 1, bonus 0. The same again changes nothing."""

    def decide() -> None:
        lease = store.assignment(assignment_id)
        domain.check_holder(lease, validator)
        if domain.is_repeated_result(lease, metrics):
            return
        submission = store.get_reviewed(lease.submission_id)
        if submission.status != RUNNING or submission.holder != lease.id or not submission.review:
            raise domain.not_active()
        score = domain.score(metrics, PrismSettings.current())
        ended = dataclasses.replace(lease, status=COMPLETED, metrics=dict(metrics))
        store_commit.commit(submission, dataclasses.replace(_attributed(submission, score), assignment=ended))

    until_decided(decide)


def reject_assignment(assignment_id: str, validator: str | None, reason: str | None) -> None:
    def decide() -> None:
        lease = store.assignment(assignment_id)
        domain.check_holder(lease, validator)
        if not domain.is_repeated_reject(lease):
            _lose(lease, REJECTED, reason or domain.VALIDATOR_REJECTED)

    until_decided(decide)


def expire_assignment(assignment_id: str) -> str | None:
    """The submission that lost its validator, if the deadline lies behind and nobody was faster."""

    def decide() -> str | None:
        lease = store.assignment(assignment_id)
        if lease.status not in domain.ACTIVE or not lease.deadline_at < clock.now():
            return None
        _lose(lease, domain.ASSIGNMENT_END_OF[domain.DEADLINE_EXPIRED], domain.DEADLINE_EXPIRED)
        return lease.submission_id

    return until_decided(decide)


def _lose(lease: Assignment, status: str, error: str) -> None:
    """Back to the queue while attempts remain; a submission that has ended otherwise stays as it is."""
    lost = dataclasses.replace(lease, status=status, error=error)
    submission, most = store.get(lease.submission_id), PrismSettings.current().validator_assignment_max_attempts
    if submission.status != RUNNING or submission.holder != lease.id:
        store_commit.close(lost)
    elif domain.may_try_again(lease.attempt, most, submission.pardons):
        store_commit.give_back(submission, lost)
    else:
        store_commit.commit(submission, Ending(FAILED, domain.EXHAUSTED, assignment=lost))


def _attributed(submission: Submission, score: Score) -> Ending:
    """Completed with its effects on families and variants, or held."""
    settings = PrismSettings.current()
    worth = _worth(score)
    if not settings.component_rewards_enabled:
        return Ending(COMPLETED, score=worth)
    facts = domain.facts_of(submission, score, settings)
    known = store_families.candidates(
        facts.family_hash, facts.architecture_id, settings.component_agent_candidate_top_k
    )
    architecture = attribution.doubted(attribution.choose_architecture(facts, known.families, settings), settings)
    variants = (
        store_families.variants(architecture.family, facts.training_hash, settings.component_agent_candidate_top_k)
        if architecture.family
        else []
    )
    training = attribution.doubted(attribution.choose_training(facts, architecture, variants, settings), settings)
    held = attribution.hold_of(architecture, training)
    if held:
        return _held(submission, worth, *held)
    return _applied(facts, architecture, training, created=known.created, worth=worth)


def _held(submission: Submission, worth: Mapping[str, Any], reason: str, confidence: float) -> Ending:
    now = clock.now()
    hold = Hold(clock.new_uuid(), submission.id, PENDING, reason[:MAX_ERROR], confidence, now, now)
    event = {"event": "held", "scope": "submission", "to_hotkey": submission.hotkey, "reason": hold.reason}
    return Ending(HELD, domain.HELD_FOR_REVIEW, score=worth, hold=(None, hold), events=(event,))


def _applied(
    facts: Facts, architecture: Choice, training: Choice, *,
    created: int, worth: Mapping[str, Any] | None,
) -> Ending:  # fmt: skip
    best = store_families.best_of(architecture.family) if architecture.family else None
    outcome = attribution.apply(
        facts, architecture, training, best, PrismSettings.current(),
        now=clock.now(), new_ids=(clock.new_uuid(), clock.new_uuid()),
    )  # fmt: skip
    assert outcome.after is not None
    return Ending(
        COMPLETED,
        score=worth,
        family=(outcome.before, outcome.after),
        families_created=created,
        variants=outcome.variants,
        events=[_event(event, outcome) for event in outcome.events],
        component=_component(outcome, facts.kind),
    )


def _worth(score: Score) -> dict[str, Any]:
    return {
        "q_arch": score.q_arch,
        "q_recipe": score.q_recipe,
        "anti_cheat_multiplier": score.multiplier,
        "diversity_bonus": score.bonus,
        "penalty": score.penalty,
        "final_score": score.final,
        "metrics": dict(score.metrics),
    }


def _component(outcome: Outcome, kind: str) -> dict[str, Any]:
    return {
        "project_kind": kind,
        "architecture_id": outcome.architecture_id,
        "training_variant_id": outcome.training_variant_id,
        "accepted_architecture": outcome.accepted_architecture,
        "accepted_training": outcome.accepted_training,
        "arch_points": outcome.arch_points,
        "training_points": outcome.training_points,
    }


def _event(event: Event, outcome: Outcome) -> dict[str, Any]:
    return {
        **vars(event),
        "architecture_id": outcome.architecture_id,
        "training_variant_id": outcome.training_variant_id,
    }


def _hang(submission: Submission) -> None:
    """Into the sample that later entrypoints are compared with; without it the next bonus differs by a hair."""
    review = submission.review
    store_review.exhibit(submission.id, submission.place, submission.hotkey, review["sketch"], store_review.gallery())


def resolve(hold_id: str, resolution: Resolution) -> dict[str, Any]:
    """An operator's decision on a hold; whatever is wrong with it leaves hold and submission untouched."""

    def decide() -> dict[str, Any]:
        hold = store_families.pending_hold(hold_id)
        submission = store.get_reviewed(hold.submission_id)
        end = _rejected if domain.is_rejection(resolution) else _resolved
        try:
            ending, answer = end(hold, submission, resolution)
        except (Conflict, NotFound):
            store_families.pending_hold(hold_id)  # what stands in the way may be what a faster operator founded
            raise
        store_commit.commit(submission, ending)
        return answer

    return until_decided(decide)


End = Callable[[Hold, Submission, Resolution], tuple[Ending, dict[str, Any]]]


def _rejected(hold: Hold, submission: Submission, resolution: Resolution) -> tuple[Ending, dict[str, Any]]:
    reason = resolution.reason or domain.MANUAL_RESOLUTION
    after = dataclasses.replace(hold, status=REJECTED, updated_at=clock.now())
    event = {"event": "rejected", "scope": "submission", "to_hotkey": submission.hotkey, "reason": reason}
    return Ending(REJECTED, reason, hold=(hold, after), events=(event,)), {"rejected": True, "held": False}


def _resolved(hold: Hold, submission: Submission, resolution: Resolution) -> tuple[Ending, dict[str, Any]]:
    settings = PrismSettings.current()
    scored = submission.score
    facts = domain.facts_of(submission, _score_again(scored), settings)
    known = _known(facts, resolution)
    family = domain.resolved_family(resolution, known)
    if family:
        known = dataclasses.replace(known, equal_variant=store_families.equal_variant(family.id, facts.training_hash))
    architecture, training = domain.operator_choices(resolution, family, known, facts.kind)
    created = store_families.candidates(facts.family_hash, None, 1).created if family is None else 0
    ending = _applied(facts, architecture, training, created=created, worth=None)
    after = dataclasses.replace(hold, status=RESOLVED, updated_at=clock.now())
    answer = {key: value for key, value in ending.component.items() if key != "project_kind"}
    return dataclasses.replace(ending, hold=(hold, after)), answer | {"held": False, "rejected": False}


def _score_again(kept: Mapping[str, Any]) -> Score:
    return Score(
        kept["q_arch"], kept["q_recipe"], kept["anti_cheat_multiplier"], kept["diversity_bonus"],
        kept["penalty"], kept["final_score"], kept["metrics"],
    )  # fmt: skip


def _known(facts: Facts, resolution: Resolution) -> Known:
    ids = [resolution.architecture_id or "", facts.architecture_id or ""]
    found = {family.id: family for family in store_families.families([name for name in ids if name])}
    variant_id = resolution.training_variant_id
    return Known(
        requested=found.get(ids[0]),
        manifest=found.get(ids[1]),
        equal=store_families.family_by_hash(facts.family_hash),
        variant=store_families.variant(variant_id) if variant_id else None,
        equal_variant=None,
    )
