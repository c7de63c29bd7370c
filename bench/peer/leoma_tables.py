"""The tables of Leoma's original server that its polled routes read and its sample writes fill."""

import datetime as dt

from sqlalchemy import DateTime, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Miner(Base):
    __tablename__ = "valid_miners"
    uid: Mapped[int] = mapped_column(primary_key=True)
    miner_hotkey: Mapped[str] = mapped_column(unique=True)
    model_name: Mapped[str | None]
    model_revision: Mapped[str | None]
    model_hash: Mapped[str | None]
    chute_id: Mapped[str | None]
    chute_slug: Mapped[str | None]
    is_valid: Mapped[bool]
    invalid_reason: Mapped[str | None]
    block: Mapped[int | None]
    last_validated_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))


class Validator(Base):
    __tablename__ = "validators"
    hotkey: Mapped[str] = mapped_column(primary_key=True)
    stake: Mapped[float]


class State(Base):
    __tablename__ = "sampling_state"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class MinerRank(Base):
    __tablename__ = "miner_ranks"
    miner_hotkey: Mapped[str] = mapped_column(primary_key=True)
    rank: Mapped[int]
    passed_count: Mapped[int]
    pass_rate: Mapped[float]
    block: Mapped[int | None]
    completeness: Mapped[float]


class Score(Base):
    __tablename__ = "rank_scores"
    miner_hotkey: Mapped[str] = mapped_column(primary_key=True)
    validator_hotkey: Mapped[str] = mapped_column(primary_key=True)
    score: Mapped[float]
    total_samples: Mapped[int]
    total_passed: Mapped[int]


class Sample(Base):
    __tablename__ = "validator_samples"
    __table_args__ = (
        UniqueConstraint("validator_hotkey", "task_id", "miner_hotkey"),
        Index("of_task", "task_id"),
        Index("of_miner", "miner_hotkey"),
        Index("of_time", "evaluated_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    validator_hotkey: Mapped[str]
    task_id: Mapped[int]
    miner_hotkey: Mapped[str]
    prompt: Mapped[str | None]
    s3_bucket: Mapped[str]
    s3_prefix: Mapped[str]
    passed: Mapped[bool]
    confidence: Mapped[int | None]
    reasoning: Mapped[str | None]
    latency_ms: Mapped[int | None]
    evaluated_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))
