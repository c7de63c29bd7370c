"""`leoma_server.py WORLD.json`: Leoma's original server as far as a benchmark asks it.

FastAPI on one uvicorn worker, SQLAlchemy and PostgreSQL, with the statements that the original makes: a rank list asks
twice per miner, scores load every sample of the window, a batch needs three statements per sample.
"""

import datetime as dt
import hashlib
import json
import signal
import socket
import sys
import time
from pathlib import Path

import sr25519
import uvicorn
import uvloop
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from leoma import WINDOW_SECONDS, bounded_and_numbered, public_key
from leoma_tables import Base, Miner, MinerRank, Sample, Score, State, Validator
from minio import Minio
from postgres import running
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

CLIPS = "leoma-samples"
CLIP_SECONDS = dt.timedelta(hours=1)
MOST_SAMPLES = 100


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class MinerAnswer(Answer):
    uid: int
    hotkey: str = Field(validation_alias="miner_hotkey")
    model_name: str | None
    model_revision: str | None
    model_hash: str | None
    chute_id: str | None
    chute_slug: str | None
    is_valid: bool
    invalid_reason: str | None
    block: int | None
    last_validated_at: dt.datetime | None


class MinersAnswer(Answer):
    miners: list[MinerAnswer]
    total: int
    valid_count: int


class NewSample(Answer):
    task_id: int
    miner_hotkey: str = Field(max_length=48)
    prompt: str = Field(max_length=4096)
    s3_bucket: str = Field(max_length=255)
    s3_prefix: str = Field(max_length=512)
    passed: bool
    confidence: int | None = Field(None, ge=0, le=100)
    reasoning: str | None = Field(None, max_length=4096)
    latency_ms: int | None = Field(None, ge=0)


class NewBatch(BaseModel):
    samples: list[NewSample]


class SampleAnswer(NewSample):
    id: int
    validator_hotkey: str
    evaluated_at: dt.datetime


class RankEntry(BaseModel):
    miner_hotkey: str
    uid: int | None
    rank: int
    passed_count: int
    pass_rate: float
    block: int | None
    eligible: bool


class RanksAnswer(BaseModel):
    ranks: list[RankEntry]


class WeightEntry(BaseModel):
    miner_hotkey: str
    uid: int
    pass_rate: float
    weight: float


class WeightsAnswer(BaseModel):
    winner_uid: int
    miners: list[WeightEntry]


class Verdict(BaseModel):
    validator_hotkey: str
    passed: bool
    stake: float | None
    evaluated_at: dt.datetime
    confidence: int | None
    reasoning: str | None


class DetailAnswer(BaseModel):
    task_id: int
    miner_hotkey: str
    description: str | None
    s3_prefix: str
    first_frame_path: str
    original_clip_path: str
    generated_video_path: str
    first_frame_url: str | None
    original_clip_url: str | None
    generated_video_url: str | None
    validators: list[Verdict]
    final_passed: bool
    latency_ms: int | None


class HealthAnswer(BaseModel):
    status: str
    version: str
    database: bool
    metagraph_synced: bool
    last_sync: dt.datetime | None


WORLD = json.loads(Path(sys.argv[1]).read_text())
STARTED = dt.datetime.now(dt.UTC)
sessions = async_sessionmaker(expire_on_commit=False)
storage = Minio("127.0.0.1:9", access_key="test", secret_key="test", region="us-east-1", secure=False)

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
app.middleware("http")(bounded_and_numbered)


async def session():
    async with sessions() as opened:
        yield opened


DATABASE = Depends(session)


async def validator(
    request: Request,
    database=DATABASE,
    x_validator_hotkey: str = Header(),
    x_signature: str = Header(),
    x_timestamp: str = Header(),
):
    if abs(time.time() - int(x_timestamp)) > WINDOW_SECONDS:
        raise HTTPException(401, "Timestamp expired")
    message = f"{hashlib.sha256(await request.body()).hexdigest()}:{x_timestamp}".encode()
    if not sr25519.verify(bytes.fromhex(x_signature), message, public_key(x_validator_hotkey)):
        raise HTTPException(401, "Invalid signature")
    if await database.get(Validator, x_validator_hotkey) is None:
        raise HTTPException(401, "Validator not registered")
    return x_validator_hotkey


@app.get("/health", response_model=HealthAnswer)
async def health(database=DATABASE):
    await database.execute(text("SELECT 1"))
    return HealthAnswer(status="healthy", version="0.3.2", database=True, metagraph_synced=True, last_sync=STARTED)


@app.get("/tasks/latest")
async def latest(database=DATABASE):
    state = (await database.execute(select(State).where(State.key == "latest_task_id"))).scalar_one_or_none()
    if state is None:
        raise HTTPException(404, "No task sampled yet")
    return {"task_id": int(state.value)}


@app.get("/miners/list", response_model=MinersAnswer)
async def miners(database=DATABASE):
    found = (await database.execute(select(Miner).order_by(Miner.uid))).scalars().all()
    listed = [MinerAnswer.model_validate(miner) for miner in found]
    return MinersAnswer(miners=listed, total=len(listed), valid_count=sum(miner.is_valid for miner in listed))


async def ranked(database):
    return (await database.execute(select(MinerRank).order_by(MinerRank.rank))).scalars().all()


async def miner_of(database, hotkey):
    return (await database.execute(select(Miner).where(Miner.miner_hotkey == hotkey))).scalar_one_or_none()


@app.get("/scores/rank", response_model=RanksAnswer)
async def ranks(database=DATABASE):
    entries = []
    for row in await ranked(database):
        miner = await miner_of(database, row.miner_hotkey)
        counted = select(MinerRank.completeness).where(MinerRank.miner_hotkey == row.miner_hotkey)
        completeness = (await database.execute(counted)).scalar_one()
        entry = RankEntry(
            miner_hotkey=row.miner_hotkey,
            uid=miner.uid if miner else None,
            rank=row.rank,
            passed_count=row.passed_count,
            pass_rate=row.pass_rate,
            block=row.block,
            eligible=completeness >= 0.8,
        )
        entries.append(entry)
    return RanksAnswer(ranks=entries)


@app.get("/weights", response_model=WeightsAnswer)
async def weights(database=DATABASE):
    entries, winner = [], 0
    for row in await ranked(database):
        miner = await miner_of(database, row.miner_hotkey)
        uid = miner.uid if miner else 0
        if row.rank == 1 and miner and miner.is_valid:
            winner = uid
        weight = 1.0 if row.rank == 1 and winner else 0.0
        entries.append(WeightEntry(miner_hotkey=row.miner_hotkey, uid=uid, pass_rate=row.pass_rate, weight=weight))
    return WeightsAnswer(winner_uid=winner, miners=entries)


@app.get("/scores")
async def scores(database=DATABASE):
    stakes = {row.hotkey: row.stake for row in (await database.execute(select(Validator))).scalars()}
    newest = (await database.execute(select(func.max(Sample.task_id)))).scalar() or 0
    window = select(Sample).where(Sample.task_id > newest - WORLD["window"])
    votes, validators = {}, {}
    for sample in (await database.execute(window)).scalars():
        votes.setdefault(sample.miner_hotkey, {}).setdefault(sample.task_id, []).append(sample)
        validators.setdefault(sample.miner_hotkey, set()).add(sample.validator_hotkey)
    found = {}
    for miner, tasks in votes.items():
        passed = sum(verdict(samples, stakes) for samples in tasks.values())
        rate = passed / len(tasks)
        total = {"avg_score": rate, "total_samples": len(tasks), "total_passed": passed, "pass_rate": rate}
        found[miner] = {**total, "validator_count": len(validators[miner])}
    return {"scores": found, "total_validators": len(stakes), "updated_at": STARTED}


@app.get("/scores/stats")
async def stats(database=DATABASE):
    samples = (await database.execute(select(func.count()).select_from(Sample))).scalar()
    totals = select(
        func.count(func.distinct(Score.validator_hotkey)),
        func.count(func.distinct(Score.miner_hotkey)),
        func.count(),
        func.sum(Score.total_samples),
        func.sum(Score.total_passed),
    )
    validators, miners, rows, total, passed = (await database.execute(totals)).one()
    counts = {"total_validators": validators, "total_miners": miners, "total_samples": samples}
    return {**counts, "total_score_entries": rows, "overall_pass_rate": passed / total if total else 0.0}


@app.get("/samples/list", response_model=list[SampleAnswer])
async def samples(limit: int = Query(200, ge=1, le=500), database=DATABASE):
    newest = select(Sample).order_by(Sample.evaluated_at.desc(), Sample.id.desc()).limit(limit)
    return (await database.execute(newest)).scalars().all()


@app.get("/tasks/{task_id}/miner/{miner_hotkey}", response_model=DetailAnswer)
async def detail(task_id: int, miner_hotkey: str, database=DATABASE):
    wanted = select(Sample).where(Sample.task_id == task_id, Sample.miner_hotkey == miner_hotkey)
    found = (await database.execute(wanted.order_by(Sample.evaluated_at))).scalars().all()
    if not found:
        raise HTTPException(404, "No evaluations for this task/miner")
    stakes = {row.hotkey: row.stake for row in (await database.execute(select(Validator))).scalars()}
    frame, clip = f"{task_id}/first_frame.png", f"{task_id}/original_clip.mp4"
    video = f"{task_id}/generated_videos/{miner_hotkey}.mp4"
    return DetailAnswer(
        task_id=task_id,
        miner_hotkey=miner_hotkey,
        description=found[0].prompt or None,
        s3_prefix=str(task_id),
        first_frame_path=frame,
        original_clip_path=clip,
        generated_video_path=video,
        first_frame_url=storage.presigned_get_object(CLIPS, frame, CLIP_SECONDS),
        original_clip_url=storage.presigned_get_object(CLIPS, clip, CLIP_SECONDS),
        generated_video_url=storage.presigned_get_object(CLIPS, video, CLIP_SECONDS),
        validators=[
            Verdict(
                validator_hotkey=sample.validator_hotkey,
                passed=sample.passed,
                stake=stakes.get(sample.validator_hotkey, 0.0),
                evaluated_at=sample.evaluated_at,
                confidence=sample.confidence,
                reasoning=sample.reasoning,
            )
            for sample in found
        ],
        final_passed=verdict(found, stakes),
        latency_ms=next((sample.latency_ms for sample in found if sample.latency_ms is not None), None),
    )


def verdict(found, stakes):
    whole = sum(stakes.get(sample.validator_hotkey, 0.0) for sample in found)
    return whole > 0 and sum(stakes.get(s.validator_hotkey, 0.0) for s in found if s.passed) / whole > 0.5


@app.post("/samples/batch", response_model=list[SampleAnswer])
async def batch(body: NewBatch, caller: str = Depends(validator), database=DATABASE):
    if len(body.samples) > MOST_SAMPLES:
        raise HTTPException(400, "Batch size exceeds limit of 100 samples")
    stored = []
    for new in body.samples:
        known = select(Sample).where(
            Sample.validator_hotkey == caller, Sample.task_id == new.task_id, Sample.miner_hotkey == new.miner_hotkey
        )
        sample = (await database.execute(known)).scalar_one_or_none() or Sample(validator_hotkey=caller)
        for name, value in new.model_dump().items():
            setattr(sample, name, value)
        sample.evaluated_at = dt.datetime.now(dt.UTC)
        database.add(sample)
        await database.flush()
        await database.refresh(sample)
        stored.append(sample)
    await database.commit()
    return stored


async def prepare(engine):
    """The tables, and in them what background jobs would have written."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with sessions() as database:
        database.add(State(key="latest_task_id", value=str(WORLD["latest_task"])))
        database.add_all(Validator(**one) for one in WORLD["validators"])
        for place, one in enumerate(WORLD["miners"]):
            miner = Miner(**one, is_valid=True, last_validated_at=STARTED)
            record = {"passed_count": place % 25, "pass_rate": place % 25 / 25, "block": miner.block}
            database.add(miner)
            database.add(MinerRank(miner_hotkey=miner.miner_hotkey, rank=place + 1, completeness=1.0, **record))
            for known in WORLD["validators"]:
                pair = {"miner_hotkey": miner.miner_hotkey, "validator_hotkey": known["hotkey"]}
                database.add(Score(**pair, score=0.5, total_samples=WORLD["latest_task"], total_passed=12))
        await database.commit()


async def serve(url):
    engine = create_async_engine(url)
    sessions.configure(bind=engine)
    await prepare(engine)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=600))
    print(listener.getsockname()[1], flush=True)
    await server.serve(sockets=[listener])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with running() as url:
        uvloop.run(serve(url))


if __name__ == "__main__":
    main()
