"""Bitrecs' HTTP surface: the intake and the public face. Reads, validators' work and the gates are in `routes_*`."""

from __future__ import annotations

from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import NotFound, Unavailable
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.routing import Auth
from chalicelib.kernel.settings import KernelSettings
from chalicelib.kernel.version import VERSION

from . import domain, routes_admin, routes_intake, routes_reads, routes_work, store, store_work
from .contracts import MAX_SUBMISSION_BYTES, Accepted, BitrecsSettings, Checked, Submission
from .routes_gate import api, limit

__all__ = ["api", "routes_admin", "routes_reads", "routes_work"]

_NETWORKS = {122: "finney", domain.TESTNET: "test"}
_REFUSALS = {
    400: "Malformed, wrongly signed, or breaking a rule; `detail` says which.",
    403: "The hotkey is banned.",
    409: "Already processed, or too similar to an existing agent.",
    429: "More requests than the address, the hotkey or the interval may make.",
    503: "Switched off, too few validators, or GitHub, chain or index do not answer; `Retry-After` says when.",
}


def _visitor(request: Request) -> None:
    limit(request, BitrecsSettings.current().rate_limit_submit_per_min)


visitor = Auth(_visitor, "", {}, {429: "More requests per minute than an address may send."})


@api.post("/check", body=Submission, max_body=MAX_SUBMISSION_BYTES, refusals=_REFUSALS)
def check(request: Request) -> Checked:
    """Validate an artifact without submitting it.

    The signature covers `created_at:github_account:gist_id:hotkey`. A 200 is no promise: the chain is not looked at.
    """
    return routes_intake.check(request)


@api.post(
    "/submit", status=201, body=Submission, max_body=MAX_SUBMISSION_BYTES, refusals=_REFUSALS | {402: "Not paid."}
)
def submit(request: Request) -> Accepted:
    """Submit an artifact that was committed on chain.

    Headers `X-Signature`, `X-Timestamp`, `X-Nonce`, `X-T-Nonce`: the signature covers
    `created_at:github_account:gist_id:hotkey:X-Nonce:X-T-Nonce:client version:X-Timestamp`, or the same without the
    version. Artifacts that use OpenRouter bring a temporary key in `X-ORTK`.
    """
    return routes_intake.submit(request)


@api.get("/", auth=visitor)
def root() -> dict[str, Any]:
    """What answers here."""
    _, agents, netuid, enabled, _ = _doors()
    return {
        "message": "Bitrecs artifact submissions",
        "version": VERSION,
        "ts": clock.stamp(clock.now()),
        "network": _NETWORKS.get(netuid, "test"),
        "uid": netuid,
        "submissions_enabled": enabled,
        "total_requests": agents,
        "exceptions": 0,
    }


@api.get("/health", auth=visitor)
def health(request: Request) -> dict[str, Any]:
    """Whether the store answers, who is connected, and the thresholds in force."""
    settings = BitrecsSettings.current()
    try:
        live, agents, netuid, enabled, snapshot = _doors()
        database = True
    except (Unavailable, RuntimeError):
        live, agents, netuid, enabled, snapshot = {}, 0, KernelSettings.current().bitrecs_netuid, False, None
        database = False
    connected = {
        slot: at
        for slot, (_, at) in store_work.live_sessions(live).items()
        if clock.now() - at <= settings.validator_heartbeat_timeout_seconds
    }
    screeners = [slot for slot in connected if slot.startswith("s_screener")]
    validators = [slot.removeprefix("s_") for slot in connected if slot not in screeners]
    has_key = database and store.api_key_works(request.header("x-api-key"))
    return {
        "status": "healthy" if database else "degraded",
        "db_status": "connected" if database else "disconnected",
        "agent_count": agents,
        "validators": {
            "total_connected_validators": len(connected),
            "connected_screeners": len(screeners),
            "connected_validators": len(validators),
            **({"hotkeys": sorted(validators)} if has_key else {}),
        },
        "similarity_threshold": str(settings.similarity_reject_distance),
        "screener_1_threshold": settings.screener_1_threshold,
        "screener_2_threshold": settings.screener_2_threshold,
        "prune_threshold": settings.prune_threshold,
        "submissions_enabled": enabled,
        "message": "Bitrecs artifact submissions",
        "version": VERSION,
        "miner_emissions": settings.miner_emission_portion,
        "netuid": netuid,
        "chain_synced_at": clock.stamp(snapshot["synced_at"]) if snapshot else None,
    }


@api.get("/eval-pricing", refusals={404: "Submissions cost nothing."})
def eval_pricing() -> Answer:
    """What a miner's coldkey has to hold."""
    settings = BitrecsSettings.current()
    if settings.payment_mode == "off":
        raise NotFound("Not Found", code="no_pricing")
    return Answer({"amount_rao": domain.price_rao(settings), "send_address": settings.upload_send_address})


def _doors() -> tuple[dict[str, Any], int, int, bool, dict[str, Any] | None]:
    settings = BitrecsSettings.current()
    switch, live, agents, snapshot = store.doors()
    enabled = (settings.submissions_enabled if switch is None else switch) and not settings.disallow_uploads
    netuid = snapshot["netuid"] if snapshot else KernelSettings.current().bitrecs_netuid
    return live, agents, netuid, enabled, snapshot
