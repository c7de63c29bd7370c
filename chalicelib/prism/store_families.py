"""PRISM's access patterns 14 to 22 and 25: families, variants, leaderboard, weights, holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from chalicelib.kernel.errors import NotFound
from chalicelib.kernel.tables import ConditionFailed, Write, get_many
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from .contracts import PENDING, Family, Hold, Submission, Variant
from .store import table
from .store_records import descending, item_of, micros, values_of

BOARD_ROWS = 50
_HOLD_ROWS = 100
_EVENTS = 100
_BEST, _OTHER = "0", "1"
_UNITS = 10**15


@frozen
class Candidates:
    """Families to compare with, and how many were ever created: the premise of a new one."""

    families: tuple[Family, ...]
    created: int


def candidates(family_hash: str, requested: str | None, top: int) -> Candidates:
    """14: the equal one, the requested one, then the most recently changed."""
    wanted = [(table, f"FAMHASH#{family_hash}", "-"), (table, "STATE", "register")]
    equal, register = get_many(wanted)
    recent = table.query("RECENT", limit=top, descending=True, consistent=True).items
    ids = [str(item["family_id"]) for item in ([equal] if equal else [])]
    ids += [requested] if requested else []
    ids += [str(item["family_id"]) for item in recent]
    return Candidates(tuple(families(ids[: top + 2])), int((register or {}).get("families", 0)))


def families(ids: Sequence[str]) -> list[Family]:
    unique = list(dict.fromkeys(ids))
    found = get_many([(table, f"FAM#{family_id}", "-") for family_id in unique])
    return [_family(item) for item in found if item]


def family_by_hash(family_hash: str) -> Family | None:
    item = table.get(f"FAMHASH#{family_hash}", "-")
    return next(iter(families([str(item["family_id"])])), None) if item else None


def _family(item: Item) -> Family:
    return Family(**values_of(Family, item))


def _variant(item: Item) -> Variant:
    return Variant(**values_of(Variant, item))


def variants(family: Family, training_hash: str, top: int) -> list[Variant]:
    """15: the family's best variants, the current best first, and the one with this hash."""
    rows = table.query(f"VARS#{family.id}", limit=top, consistent=True).items
    hashes = dict.fromkeys([*(str(row["training_hash"]) for row in rows), training_hash])
    found = get_many([(table, f"FAM#{family.id}", f"T#{found_hash}") for found_hash in hashes])
    return [_variant(item) for item in found if item]


def variant(variant_id: str) -> Variant | None:
    pointer = table.get(f"VARID#{variant_id}", "-")
    if not pointer:
        return None
    item = table.get(f"FAM#{pointer['architecture_id']}", f"T#{pointer['training_hash']}")
    return _variant(item) if item else None


def equal_variant(family_id: str, training_hash: str) -> Variant | None:
    item = table.get(f"FAM#{family_id}", f"T#{training_hash}")
    return _variant(item) if item else None


def architectures(limit: int) -> list[Family]:
    """16: by q_arch_best, then age."""
    return [_family(item) for item in table.query("ARCH", limit=limit, consistent=True).items]


def training_variants(architecture_id: str | None, limit: int) -> list[Variant]:
    """17: current best first, then by mean, then by age."""
    pk = "VARS" if architecture_id is None else f"VARS#{architecture_id}"
    return [_variant(item) for item in table.query(pk, limit=limit, consistent=True).items]


def leaderboard(epoch_id: int) -> list[Item]:
    """18: completed submissions of an epoch, the best first."""
    return table.query(f"BOARD#{epoch_id}", limit=BOARD_ROWS, consistent=True).items


def board_row(submission: Submission, final_score: float) -> Item:
    return {
        "pk": f"BOARD#{submission.epoch_id}",
        "sk": f"{descending(final_score)}#{submission.place}",
        "hotkey": submission.hotkey,
        "score": final_score,
        "submission_id": submission.id,
    }


def weights_state() -> tuple[int, Item | None]:
    """19: how often results changed, and the weights computed last."""
    state, snapshot = get_many([(table, "STATE", "weights"), (table, "SNAP", "weights")])
    return int((state or {}).get("generation", 0)), snapshot


def component_rows(architecture_share: float, training_share: float) -> Iterator[tuple[str, float]]:
    """19a: what every owner's families and current-best variants are worth; as many rows as there ever were owners."""
    for item in table.query_all("EARNED", consistent=True):
        worth = architecture_share * item["architecture"] + training_share * item["training"]
        yield str(item["sk"]), worth / _UNITS


def epoch_rows(epoch_id: int) -> Iterator[tuple[str, float]]:
    """19b: the sum of every miner's completed scores in an epoch."""
    for item in table.query_all(f"EARNED#{epoch_id}", consistent=True):
        yield str(item["sk"]), item["score"] / _UNITS


Change = tuple[Family | Variant | None, Family | Variant]


def earning(changes: Iterable[Change]) -> list[Write]:
    """Every owner's sums, moved by what each family and variant was worth before and is worth after."""
    moved: dict[str, list[int]] = {}
    for before, after in changes:
        for record, sign in ((before, -1), (after, 1)):
            if record:
                sums = moved.setdefault(record.owner_hotkey, [0, 0])
                sums[isinstance(record, Variant)] += sign * _worth(record)
    change = "ADD #architecture :architecture, #training :training"
    return [
        table.updating("EARNED", hotkey, change, architecture=architecture, training=training)
        for hotkey, (architecture, training) in moved.items()
        if architecture or training
    ]


def _worth(record: Family | Variant) -> int:
    if isinstance(record, Family):
        return _units(record.q_arch_best)
    return _units(record.q_recipe) if record.is_current_best else 0


def scoring(submission: Submission, final_score: float) -> Write:
    """The miner's sum in the submission's epoch."""
    pk = f"EARNED#{submission.epoch_id}"
    return table.updating(pk, submission.hotkey, "ADD #score :score", score=_units(final_score))


def _units(value: float) -> int:
    """Sums of whole numbers are exact, whatever came and went."""
    return round(value * _UNITS)


def keep_weights(snapshot: Item, generation: int) -> None:
    """A slower reader never replaces newer weights."""
    try:
        table.put(
            {"pk": "SNAP", "sk": "weights", "generation": generation, **snapshot},
            when="attribute_not_exists(#pk) OR #generation <= :generation",
            generation=generation,
        )
    except ConditionFailed:
        return


def changed_weights() -> Write:
    return table.updating("STATE", "weights", "ADD #generation :one", one=1)


def holds(status: str | None, limit: int) -> list[Hold]:
    """20: the newest first."""
    pk = f"HOLDS#{status}" if status else "HOLDS"
    page = table.query(pk, limit=min(limit, _HOLD_ROWS), descending=True, consistent=True)
    return [Hold(**values_of(Hold, item)) for item in page.items]


def pending_hold(hold_id: str) -> Hold:
    """21: one that waits for its resolution."""
    item = table.get(f"HOLD#{hold_id}", "-")
    if not item or item["status"] != PENDING:
        raise NotFound("component review hold not found", code="hold_not_found")
    return Hold(**values_of(Hold, item))


def putting_hold(after: Hold, before: Hold | None) -> list[Write]:
    """A hold and its rows in both lists; a resolution leaves the list of those that wait."""
    when = "#status = :was" if before else "attribute_not_exists(#pk)"
    values = {"was": before.status} if before else {}
    sk = f"{micros(after.created_at)}#{after.id}"
    writes = [
        table.putting(item_of(f"HOLD#{after.id}", "-", after), when=when, **values),
        table.putting(item_of("HOLDS", sk, after)),
        table.putting(item_of(f"HOLDS#{after.status}", sk, after)),
    ]
    if before and before.status != after.status:
        writes.append(table.deleting(f"HOLDS#{before.status}", sk))
    return writes


def putting_family(before: Family | None, after: Family, created: int) -> list[Write]:
    """The family under the premise that nobody changed it (or created one meanwhile), and its rows in the lists."""
    if before == after:
        return [table.checking(f"FAM#{after.id}", "-", when="#version = :version", version=after.version)]
    row = item_of("ARCH", _family_place(after), after, without=("graph",))
    recent = {"pk": "RECENT", "sk": f"{micros(after.updated_at)}#{after.id}", "family_id": after.id}
    item = item_of(f"FAM#{after.id}", "-", after)
    writes = [table.putting(row), table.putting(recent)]
    if before is None:
        by_hash = {"pk": f"FAMHASH#{after.family_hash}", "sk": "-", "family_id": after.id}
        count = "attribute_not_exists(#families)" if not created else "#families = :before"
        values = {"after": created + 1} | ({"before": created} if created else {})
        register = table.updating("STATE", "register", "SET #families = :after", when=count, **values)
        return [table.putting_new(item), table.putting_new(by_hash), register, *writes]
    writes.append(table.putting(item, when="#version = :version", version=before.version))
    if _family_place(before) != _family_place(after):
        writes.append(table.deleting("ARCH", _family_place(before)))
    if before.updated_at != after.updated_at:
        writes.append(table.deleting("RECENT", f"{micros(before.updated_at)}#{before.id}"))
    return writes


def _family_place(family: Family) -> str:
    return f"{descending(family.q_arch_best)}#{micros(family.created_at)}#{family.id}"


def putting_variant(before: Variant | None, after: Variant) -> list[Write]:
    """The variant, unique per family and hash, and its rows in both lists."""
    key = (f"FAM#{after.architecture_id}", f"T#{after.training_hash}")
    item = item_of(*key, after)
    lists = ("VARS", f"VARS#{after.architecture_id}")
    place = _variant_place(after)
    writes = [table.putting(item_of(pk, place, after, without=("graph",))) for pk in lists]
    if before is None:
        pointer = {
            "pk": f"VARID#{after.id}",
            "sk": "-",
            "architecture_id": after.architecture_id,
            "training_hash": after.training_hash,
        }
        return [*writes, table.putting_new(item), table.putting_new(pointer)]
    unchanged = "#updated_at = :updated AND #submission_id = :submission AND #is_current_best = :best"
    writes.append(
        table.putting(
            item, when=unchanged,
            updated=before.updated_at, submission=before.submission_id, best=before.is_current_best,
        )
    )  # fmt: skip
    if _variant_place(before) != place:
        writes += [table.deleting(pk, _variant_place(before)) for pk in lists]
    return writes


def _variant_place(variant: Variant) -> str:
    first = _BEST if variant.is_current_best else _OTHER
    return f"{first}#{descending(variant.metric_mean)}#{micros(variant.created_at)}#{variant.id}"


def best_of(family: Family) -> Variant | None:
    """The current best: what the family names, read as it stands now."""
    return dataclasses.replace(found, is_current_best=True) if (found := _named(family)) else None


def _named(family: Family) -> Variant | None:
    return variant(family.best_variant) if family.best_variant else None


def ownership(family_id: str) -> list[Item]:
    """25: the last hundred events of a family, the newest first."""
    return table.query(f"EVENTS#{family_id}", limit=_EVENTS, descending=True, consistent=True).items
