"""Who invented an architecture and who owns its best training: automatic decisions, operators' ones, and their effects.

The part of the speciality that decides; every effect is told as records before and after, which the store turns into
one transaction that repeats the premises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, replace

from chalicelib.kernel.values import frozen

from .contracts import ARCHITECTURE_ONLY, TRAINING_FOR_ARCH, Family, PrismSettings, Variant

NEW, EXISTING, TRANSFER, HOLD, NONE, REJECT = "new", "existing", "transfer", "hold", "none", "reject"
WAITS = "architecture decision must resolve first"


@frozen
class Facts:
    """What is known of a scored submission when its components are attributed."""

    submission_id: str
    hotkey: str
    kind: str
    architecture_id: str | None
    family_hash: str
    training_hash: str
    architecture: frozenset[int]
    training: frozenset[int]
    q_arch: float
    q_recipe: float
    metric_std: float


@frozen
class Choice:
    """One component's decision."""

    action: str
    confidence: float
    reason: str
    family: Family | None = None
    variant: Variant | None = None


@frozen
class Event:
    """A line of the ownership history."""

    event: str
    scope: str
    from_hotkey: str | None
    to_hotkey: str | None
    reason: str


@frozen
class Outcome:
    """What an attribution changes; equal records before and after are premises alone."""

    before: Family | None = None
    after: Family | None = None
    variants: tuple[tuple[Variant | None, Variant], ...] = ()
    training_variant_id: str | None = None
    accepted_architecture: bool = False
    accepted_training: bool = False
    arch_points: float = 0.0
    training_points: float = 0.0
    events: tuple[Event, ...] = field(default_factory=tuple)

    @property
    def architecture_id(self) -> str | None:
        return self.after.id if self.after else None


def meaningful(
    new: float, old: float, *, absolute: float, relative: float, z: float = 0.0, stds: tuple[float, float] = (0.0, 0.0)
) -> bool:
    """Strictly more than the absolute, the relative and the noise gate."""
    return new - old > max(absolute, abs(old) * relative, z * math.hypot(*stds))


def similarity(mine: frozenset[int], theirs: frozenset[int]) -> float:
    union = len(mine | theirs)
    return len(mine & theirs) / union if union else 0.0


def choose_architecture(facts: Facts, families: Sequence[Family], settings: PrismSettings) -> Choice:
    """First match wins; `families` are those to compare with, the requested and the equal one among them."""
    same = next((family for family in families if family.family_hash == facts.family_hash), None)
    if not families and not facts.architecture_id:
        return Choice(NEW, 1.0, "no architecture is known yet")
    if same:
        return Choice(EXISTING, 1.0, "the same architecture", same)
    if facts.architecture_id:
        return _requested(facts, families, settings)
    if not settings.component_agent_enabled:
        return Choice(NEW, 1.0, "no architecture was requested")
    return _most_similar(facts, families, settings)


def _requested(facts: Facts, families: Sequence[Family], settings: PrismSettings) -> Choice:
    """A project that names its architecture belongs to that one or waits for an operator."""
    family = next((family for family in families if family.id == facts.architecture_id), None)
    if not family and not families:
        return Choice(NEW, 1.0, "no architecture is known yet")
    if not family:
        return Choice(HOLD, 0.0, "requested architecture was not found")
    likeness = similarity(facts.architecture, family.graph)
    if likeness >= settings.component_agent_same_threshold or not settings.component_agent_enabled:
        return Choice(EXISTING, likeness, "the requested architecture", family)
    return Choice(HOLD, likeness, "requested architecture does not semantically match", family)


def _most_similar(facts: Facts, families: Sequence[Family], settings: PrismSettings) -> Choice:
    best = max(families, key=lambda family: similarity(facts.architecture, family.graph))
    likeness = similarity(facts.architecture, best.graph)
    if likeness >= settings.component_agent_same_threshold:
        return Choice(EXISTING, likeness, "semantically the same architecture", best)
    if likeness >= settings.component_agent_hold_threshold:
        return Choice(HOLD, likeness, "ambiguous architecture similarity", best)
    return Choice(NEW, 1 - likeness, "unlike every known architecture")


def choose_training(facts: Facts, architecture: Choice, variants: Sequence[Variant], settings: PrismSettings) -> Choice:
    """`variants` are those of the chosen family alone."""
    if facts.kind == ARCHITECTURE_ONLY:
        return Choice(NONE, 1.0, "the project has no training part")
    if architecture.action == HOLD:
        return Choice(HOLD, 0.0, WAITS)
    if not variants:
        return Choice(NEW, 1.0, "no training is known yet")
    same = next((variant for variant in variants if variant.training_hash == facts.training_hash), None)
    if same:
        return Choice(EXISTING, 1.0, "the same training", variant=same)
    return _most_similar_training(facts, variants, settings)


def _most_similar_training(facts: Facts, variants: Sequence[Variant], settings: PrismSettings) -> Choice:
    best = max(variants, key=lambda variant: similarity(facts.training, variant.graph))
    likeness = similarity(facts.training, best.graph)
    if not settings.component_agent_enabled or likeness < settings.component_agent_hold_threshold:
        return Choice(NEW, 1 - likeness, "unlike every known training")
    if likeness >= settings.component_agent_same_threshold:
        return Choice(EXISTING, likeness, "semantically the same training")
    return Choice(HOLD, likeness, "ambiguous training similarity", variant=best)


def doubted(choice: Choice, settings: PrismSettings) -> Choice:
    """A decision that is too unsure to be made without an operator."""
    unsure = choice.action in {EXISTING, TRANSFER} and choice.confidence < settings.component_agent_min_confidence
    if settings.component_hold_low_confidence and unsure:
        return replace(choice, action=HOLD)
    return choice


def hold_of(architecture: Choice, training: Choice) -> tuple[str, float] | None:
    """Reason and confidence of a hold, where either decision needs one."""
    if HOLD not in {architecture.action, training.action}:
        return None
    confidence = min(max(min(architecture.confidence, training.confidence), 0.0), 1.0)
    return f"architecture={architecture.reason}; training={training.reason}", confidence


@frozen
class _Case:
    """A submission whose decisions are carried out."""

    facts: Facts
    settings: PrismSettings
    best: Variant | None
    now: float
    new_ids: tuple[str, str]


def apply(
    facts: Facts,
    architecture: Choice,
    training: Choice,
    best: Variant | None,
    settings: PrismSettings,
    *,
    now: float,
    new_ids: tuple[str, str],
) -> Outcome:
    """The effects of two decisions; `best` is the chosen family's current best variant."""
    case = _Case(facts, settings, best, now, new_ids)
    outcome = _apply_architecture(case, architecture)
    if training.action == NONE or facts.kind == ARCHITECTURE_ONLY:
        return outcome
    return _apply_training(case, training, outcome)


def _apply_architecture(case: _Case, choice: Choice) -> Outcome:
    facts, family = case.facts, choice.family
    points = case.settings.architecture_reward_weight * facts.q_arch
    if choice.action == NEW or family is None:
        event = Event("created", "architecture", None, facts.hotkey, choice.reason)
        return Outcome(None, _founded(case), accepted_architecture=True, arch_points=points, events=(event,))
    if choice.action == TRANSFER or _takes_over(case, choice, family):
        taken = replace(
            _made_canonical(case, family), owner_hotkey=facts.hotkey, owner_submission_id=facts.submission_id
        )
        event = Event("transferred", "architecture", family.owner_hotkey, facts.hotkey, choice.reason)
        return Outcome(family, taken, accepted_architecture=True, arch_points=points, events=(event,))
    better = meaningful(
        facts.q_arch,
        family.q_arch_best,
        absolute=case.settings.architecture_improvement_min_delta_abs,
        relative=case.settings.architecture_improvement_min_delta_rel,
    )
    return Outcome(family, _made_canonical(case, family) if better else family)


def _founded(case: _Case) -> Family:
    facts = case.facts
    return Family(
        id=case.new_ids[0],
        family_hash=facts.family_hash,
        owner_hotkey=facts.hotkey,
        owner_submission_id=facts.submission_id,
        canonical_submission_id=facts.submission_id,
        q_arch_best=facts.q_arch,
        created_at=case.now,
        updated_at=case.now,
        canonical_hash=facts.family_hash,
        graph=facts.architecture,
    )


def _made_canonical(case: _Case, family: Family) -> Family:
    return replace(
        family,
        canonical_submission_id=case.facts.submission_id,
        canonical_hash=case.facts.family_hash,
        graph=case.facts.architecture,
        q_arch_best=max(family.q_arch_best, case.facts.q_arch),
        updated_at=case.now,
        version=family.version + 1,
    )


def _takes_over(case: _Case, choice: Choice, family: Family) -> bool:
    """A clearly better project of somebody else's architecture; the same files with luckier metrics are not one."""
    facts, settings = case.facts, case.settings
    if not settings.architecture_auto_transfer or facts.kind == TRAINING_FOR_ARCH:
        return False
    if choice.action != EXISTING or choice.confidence < settings.component_agent_transfer_confidence:
        return False
    if facts.family_hash in {family.canonical_hash, family.family_hash} or facts.hotkey == family.owner_hotkey:
        return False
    return meaningful(
        facts.q_arch,
        family.q_arch_best,
        absolute=settings.architecture_transfer_min_delta_abs,
        relative=settings.architecture_transfer_min_delta_rel,
    )


def _apply_training(case: _Case, choice: Choice, outcome: Outcome) -> Outcome:
    if choice.variant and choice.action == TRANSFER:
        return _transfer_training(case, choice.variant, outcome)
    if choice.variant and choice.action == EXISTING:
        return replace(outcome, training_variant_id=choice.variant.id)
    # What is merely alike was tuned by this miner, and stands for itself: the gate decides what that is worth.
    wins = case.best is None or _trains_better(case, case.best)
    created = _trained(case, outcome, wins=wins)
    event = Event("created", "training", None, case.facts.hotkey, choice.reason)
    outcome = replace(outcome, training_variant_id=created.id, events=(*outcome.events, event))
    return _crown(case, outcome, None, created) if wins else replace(outcome, variants=((None, created),))


def _trains_better(case: _Case, best: Variant) -> bool:
    return meaningful(
        case.facts.q_recipe,
        best.metric_mean,
        absolute=case.settings.training_improvement_min_delta_abs,
        relative=case.settings.training_improvement_min_delta_rel,
        z=case.settings.training_improvement_z_score,
        stds=(case.facts.metric_std, best.metric_std),
    )


def _trained(case: _Case, outcome: Outcome, *, wins: bool) -> Variant:
    assert outcome.after is not None
    facts = case.facts
    return Variant(
        id=case.new_ids[1],
        architecture_id=outcome.after.id,
        training_hash=facts.training_hash,
        owner_hotkey=facts.hotkey,
        submission_id=facts.submission_id,
        q_recipe=facts.q_recipe,
        metric_mean=facts.q_recipe,
        metric_std=facts.metric_std,
        created_at=case.now,
        updated_at=case.now,
        is_current_best=wins,
        graph=facts.training,
    )


def _transfer_training(case: _Case, variant: Variant, outcome: Outcome) -> Outcome:
    """Gated: a variant moves only to somebody who trains clearly better."""
    facts = case.facts
    outcome = replace(outcome, training_variant_id=variant.id)
    better = meaningful(
        facts.q_recipe,
        variant.metric_mean,
        absolute=case.settings.training_transfer_min_delta_abs,
        relative=case.settings.training_transfer_min_delta_rel,
    )
    if not better:
        return outcome
    moved = replace(
        variant,
        owner_hotkey=facts.hotkey,
        submission_id=facts.submission_id,
        q_recipe=facts.q_recipe,
        metric_mean=facts.q_recipe,
        metric_std=facts.metric_std,
        updated_at=case.now,
        is_current_best=True,
    )
    event = Event("transferred", "training", variant.owner_hotkey, facts.hotkey, "a clearly better training")
    return _crown(case, replace(outcome, events=(*outcome.events, event)), variant, moved)


def _crown(case: _Case, outcome: Outcome, before: Variant | None, winner: Variant) -> Outcome:
    """Exactly one current best: the family names it, the one before it steps down."""
    changes: list[tuple[Variant | None, Variant]] = [(before, winner)]
    if case.best and case.best.id != winner.id:
        changes.append((case.best, replace(case.best, is_current_best=False, updated_at=case.now)))
    family = outcome.after
    assert family is not None
    changed = outcome.before != family
    crowned = replace(
        family,
        best_variant=winner.id,
        updated_at=case.now,
        version=family.version if changed else family.version + 1,
    )
    points = case.settings.training_reward_weight * case.facts.q_recipe
    return replace(outcome, after=crowned, variants=tuple(changes), accepted_training=True, training_points=points)
