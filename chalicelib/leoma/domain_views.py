"""What readers see of votes, tallies and ranks: functions from stored values to answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from . import ranking
from .contracts import (
    AggregatedScores,
    Agreement,
    Miner,
    MinerAggregate,
    MinerRank,
    MinerScore,
    MinerScores,
    MinerTask,
    MinerWeight,
    Ranks,
    Sample,
    ScoreStats,
    TaskDetail,
    TaskMiner,
    TaskMinerDetail,
    TaskVerdict,
    ValidatorScore,
    ValidatorScores,
    ValidatorSummary,
    Weights,
    task_of,
)
from .contracts_sheets import Entry, TaskLine, TaskSheet, Vote, line

Address = Callable[[str], str | None]


def stamp(at: float) -> str:
    """`2026-11-20T23:17:18.051489Z`, the form of every field typed as a time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso(at: float) -> str:
    """`2026-11-20T23:14:11.328285+00:00`, the form that score routes use inside lists."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def sample(validator: str, entry: Entry, vote: Vote) -> Sample:
    """A stored sample as it is answered; artifacts stay inside."""
    return Sample(
        id=vote.id,
        sample_id=entry.sample_id,
        validator_hotkey=validator,
        miner_hotkey=entry.miner,
        prompt=entry.prompt,
        s3_bucket=entry.s3_bucket,
        s3_prefix=entry.s3_prefix,
        passed=entry.passed,
        confidence=entry.confidence,
        reasoning=entry.reasoning,
        evaluated_at=stamp(vote.at),
        task_id=task_of(entry.task_key),
        latency_ms=vote.latency_ms,
    )


def miner_tasks(lines: Iterable[TaskLine], stakes: Mapping[str, float]) -> list[MinerTask]:
    """Newest task first; stakes count as they are now."""
    return [
        MinerTask(
            task_id=entry.task,
            passed=ranking.passes(entry.votes, stakes),
            latency_ms=entry.latency_ms,
            updated=stamp(entry.updated),
        )
        for entry in sorted(lines, key=lambda entry: -entry.task)
    ]


def clip_paths(task: int, miner: str = "") -> dict[str, str]:
    """Where the sampler puts a task's clips; nothing a validator sent enters a path."""
    paths = {"first_frame": f"{task}/first_frame.png", "original_clip": f"{task}/original_clip.mp4"}
    if miner:
        safe = miner.replace("/", "_").replace("\\", "_")
        paths["generated_video"] = f"{task}/generated_videos/{safe}.mp4"
    return paths


def _clips(task: int, address: Address, miner: str = "") -> dict[str, Any]:
    paths = clip_paths(task, miner)
    return {f"{name}_path": path for name, path in paths.items()} | {
        f"{name}_url": address(path) for name, path in paths.items()
    }


def task_miner(
    task: int,
    miner: str,
    votes: Mapping[str, Vote],
    *,
    entries: Mapping[str, Entry],
    stakes: Mapping[str, float],
    address: Address,
) -> TaskMinerDetail:
    """One miner's clip of one task with every verdict on it, the oldest first."""
    oldest_first = sorted(votes, key=lambda voter: (votes[voter].at, votes[voter].id))
    latencies = (votes[voter].latency_ms for voter in oldest_first)
    return TaskMinerDetail(
        task_id=task,
        miner_hotkey=miner,
        description=entries[oldest_first[0]].prompt or None,
        s3_prefix=str(task),
        **_clips(task, address, miner),
        validators=[
            TaskVerdict(
                validator_hotkey=voter,
                passed=votes[voter].passed,
                stake=stakes.get(voter, 0.0),
                evaluated_at=stamp(votes[voter].at),
                confidence=entries[voter].confidence,
                reasoning=entries[voter].reasoning,
                aspect_scores=entries[voter].aspects,
                overall_score=entries[voter].overall,
            )
            for voter in oldest_first
        ],
        final_passed=ranking.passes({voter: vote.passed for voter, vote in votes.items()}, stakes),
        latency_ms=next((latency for latency in latencies if latency is not None), None),
    )


def task(
    number: int, votes: TaskSheet, description: str | None, stakes: Mapping[str, float], address: Address
) -> TaskDetail:
    """Every miner of one task: the passed first, then by hotkey."""
    miners = []
    for miner, of_miner in votes.by_miner().items():
        entry = line(number, of_miner)
        miners.append(
            TaskMiner(
                miner_hotkey=miner,
                passed=ranking.passes(entry.votes, stakes),
                validator_count=len(of_miner),
                latency_ms=entry.latency_ms,
                updated=stamp(entry.updated),
            )
        )
    return TaskDetail(
        task_id=number,
        description=description or None,
        s3_prefix=str(number),
        **_clips(number, address),
        miner_count=len(miners),
        validator_count=len(votes.voters),
        miners=sorted(miners, key=lambda entry: (not entry.passed, entry.miner_hotkey)),
    )


# --- what the score and rank jobs write


def ranked(places: Iterable[ranking.Place], window: int, threshold: float) -> list[dict[str, Any]]:
    """The rank list as it is kept: what does not depend on who is registered or valid later."""
    return [
        {
            "miner_hotkey": place.entrant.hotkey,
            "rank": place.rank,
            "passed_count": place.entrant.passed,
            "pass_rate": place.entrant.pass_rate,
            "block": place.entrant.block,
            "eligible": ranking.is_eligible(place.entrant.evaluated, window, threshold),
        }
        for place in places
    ]


def ranks(kept: Iterable[Mapping[str, Any]], miners: Iterable[Miner]) -> Ranks:
    """The list with the uids of now."""
    uids = {miner.hotkey: miner.uid for miner in miners}
    return Ranks(ranks=[MinerRank(uid=uids.get(entry["miner_hotkey"]), **entry) for entry in kept])


def weights(kept: Sequence[Mapping[str, Any]], miners: Sequence[Miner]) -> Weights:
    """Everything for rank 1 while that miner is valid, else a burn."""
    uids = {miner.hotkey: miner.uid for miner in miners}
    valid = {miner.hotkey: miner.uid for miner in miners if miner.is_valid}
    winner = ranking.winner_uid([(entry["miner_hotkey"], entry["rank"]) for entry in kept], valid)
    entries = []
    for entry in kept:
        uid = uids.get(entry["miner_hotkey"], 0)
        entries.append(
            MinerWeight(
                miner_hotkey=entry["miner_hotkey"],
                uid=uid,
                pass_rate=entry["pass_rate"],
                weight=ranking.weight(entry["rank"], uid, winner),
            )
        )
    return Weights(winner_uid=winner, miners=entries)


def matrix(
    tallies: Sequence[ranking.Tally], window: Mapping[str, tuple[int, int]], *, any_task: bool, at: float
) -> dict[str, Any]:
    """Every score in one snapshot: rows (validator, miner, total, passed) by index, the window record per miner."""
    validators = sorted({tally.validator for tally in tallies})
    miners = sorted({tally.miner for tally in tallies})
    row = {name: number for number, name in enumerate(validators)}
    column = {name: number for number, name in enumerate(miners)}
    return {
        "at": at,
        "validators": validators,
        "miners": miners,
        "rows": [[row[t.validator], column[t.miner], t.total, t.passed] for t in tallies],
        "window": {miner: list(window.get(miner, (0, 0))) for miner in miners} if any_task else None,
    }


def tallies_of(kept: Mapping[str, Any]) -> list[ranking.Tally]:
    validators, miners = kept["validators"], kept["miners"]
    return [
        ranking.Tally(validators[row], miners[column], total, passed) for row, column, total, passed in kept["rows"]
    ]


def aggregate(miner: str, own: Sequence[ranking.Tally], window: Mapping[str, Sequence[int]] | None) -> MinerAggregate:
    """A miner's tasks of the window; sums over all time only while no task was ever judged."""
    if window is None:
        total, passed = sum(t.total for t in own), sum(t.passed for t in own)
        average = ranking.mean([t.score for t in own])
    else:
        passed, total = window.get(miner, (0, 0))
        average = ranking.ratio(passed, total)
    return MinerAggregate(
        avg_score=average,
        total_samples=total,
        total_passed=passed,
        pass_rate=ranking.ratio(passed, total),
        validator_count=len(own),
    )


def all_scores(kept: Mapping[str, Any]) -> AggregatedScores:
    by_miner: dict[str, list[ranking.Tally]] = {}
    for tally in tallies_of(kept):
        by_miner.setdefault(tally.miner, []).append(tally)
    return AggregatedScores(
        scores={miner: aggregate(miner, own, kept["window"]) for miner, own in sorted(by_miner.items())},
        total_validators=len(kept["validators"]),
        updated_at=stamp(kept["at"]),
    )


def summaries(kept: Mapping[str, Any]) -> list[ValidatorSummary]:
    by_validator: dict[str, list[ranking.Tally]] = {}
    for tally in tallies_of(kept):
        by_validator.setdefault(tally.validator, []).append(tally)
    return [
        ValidatorSummary(
            validator_hotkey=validator,
            total_samples=sum(t.total for t in own),
            total_passed=sum(t.passed for t in own),
            avg_score=ranking.mean([t.score for t in own]),
            pass_rate=ranking.ratio(sum(t.passed for t in own), sum(t.total for t in own)),
            last_updated=iso(kept["at"]),
        )
        for validator, own in sorted(by_validator.items())
    ]


def agreement(found: Mapping[str, tuple[int, int]], stakes: Mapping[str, float]) -> list[Agreement]:
    """How often each voter's word was the verdict."""
    return [
        Agreement(
            validator_hotkey=voter,
            stake=stakes.get(voter, 0.0),
            votes=votes,
            agreement=ranking.ratio(confirmed, votes),
        )
        for voter, (votes, confirmed) in sorted(found.items())
    ]


def stats(kept: Mapping[str, Any], samples: int) -> ScoreStats:
    """`samples` counts whatever is stored, the rest only what counts."""
    tallies = tallies_of(kept)
    return ScoreStats(
        total_validators=len(kept["validators"]),
        total_miners=len(kept["miners"]),
        total_samples=samples,
        total_score_entries=len(tallies),
        overall_pass_rate=ranking.ratio(sum(t.passed for t in tallies), sum(t.total for t in tallies)),
    )


def stats_of(last: Mapping[str, Any], samples: int) -> ScoreStats:
    """The last figures, or none, with what is stored now."""
    nothing = {"total_validators": 0, "total_miners": 0, "total_score_entries": 0, "overall_pass_rate": 0.0}
    return ScoreStats.model_validate({**nothing, **last, "total_samples": samples})


def _score(tally: ranking.Tally, at: float) -> dict[str, Any]:
    return {
        "score": tally.score,
        "total_samples": tally.total,
        "total_passed": tally.passed,
        "pass_rate": tally.score,
        "updated_at": iso(at),
    }


def miner_scores(miner: str, kept: Mapping[str, Any] | None) -> MinerScores:
    """One column of the matrix; unknown miners have zeros."""
    if kept is None or miner not in kept["miners"]:
        window = kept["window"] if kept else {}
        return MinerScores(miner_hotkey=miner, by_validator=[], aggregated=aggregate(miner, [], window))
    own = [tally for tally in tallies_of(kept) if tally.miner == miner]
    rows = [ValidatorScore(validator_hotkey=tally.validator, **_score(tally, kept["at"])) for tally in own]
    return MinerScores(miner_hotkey=miner, by_validator=rows, aggregated=aggregate(miner, own, kept["window"]))


def validator_scores(validator: str, kept: Mapping[str, Any] | None) -> ValidatorScores:
    """One row of the matrix."""
    own = [tally for tally in tallies_of(kept) if tally.validator == validator] if kept else []
    rows = [MinerScore(miner_hotkey=tally.miner, **_score(tally, kept["at"] if kept else 0.0)) for tally in own]
    return ValidatorScores(validator_hotkey=validator, scores=rows, total_miners=len(rows))
