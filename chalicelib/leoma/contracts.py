"""What Leoma's routes take and answer, and its knobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chalicelib.kernel import keys
from chalicelib.kernel.settings import Settings, knob


def _ss58(text: str) -> str:
    if not keys.looks_like_ss58(text):
        raise ValueError("Invalid SS58 address format")
    return text


Hotkey = Annotated[str, AfterValidator(_ss58)]


class LeomaSettings(Settings, system="leoma"):
    """Leoma's knobs."""

    signature_expiry_seconds: int = knob(300, "how far a signed request's timestamp may be from now", minimum=1)
    admin_hotkeys: tuple[str, ...] = knob((), "hotkeys that may edit the blacklist; empty: nobody")
    max_body_size: int = knob(2_097_152, "largest request body in bytes", minimum=1)
    cors_origins: tuple[str, ...] = knob(("*",), "origins that browsers may call from")
    replay_cache: bool = knob(True, "refuse a signed request that is replayed on another target")


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Health(Contract):
    status: str = Field(description="`healthy`, or `degraded` when the store does not answer")
    version: str
    database: bool
    metagraph_synced: bool
    last_sync: str | None = Field(description="when miners were last validated")


class NewBlacklistEntry(Contract):
    hotkey: Hotkey
    reason: Annotated[str, Field(max_length=255)] | None = None


class BlacklistEntry(Contract):
    hotkey: str
    reason: str | None
    added_by: str | None
    created_at: str | None


class BlacklistRemoval(Contract):
    success: bool
    message: str
    removed_by: str


class Miner(Contract):
    uid: int
    hotkey: str
    model_name: str | None = None
    model_revision: str | None = None
    model_hash: str | None = None
    chute_id: str | None = None
    chute_slug: str | None = None
    is_valid: bool = False
    invalid_reason: str | None = None
    block: int | None = None
    last_validated_at: str | None = None


class MinerList(Contract):
    miners: list[Miner]
    total: int
    valid_count: int
