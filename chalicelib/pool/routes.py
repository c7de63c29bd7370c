"""Pool's HTTP surface: miners, recipients, results and health here; work, submissions and claims in the parts."""

from __future__ import annotations

import hashlib
from typing import Any

from chalicelib.kernel import caching, chain, clock, keys
from chalicelib.kernel.errors import Forbidden, Invalid, NotFound, Unavailable
from chalicelib.kernel.http import Answer, Request, problem
from chalicelib.kernel.tables import until_decided

from . import consensus, domain, routes_claims, routes_results, routes_submissions, routes_tasks, store
from .contracts import LeaderboardQuery, PoolSettings, RegisterRequest, Registration
from .contracts_records import Miner, Vitals
from .routes_auth import (
    Caller,
    api,
    asking,
    check_signature,
    claims,
    headers_of,
    reading,
    recipient_update,
)

__all__ = ["api", "claims", "routes_claims", "routes_results", "routes_submissions"]

_DISCLAIMER_SECONDS = 3600
_DAY_OF_DISCLAIMER = "2026-01-01"
_DISCLAIMER = """\
# Disclaimer

Using this pool in any way means that you accept what follows.

- **No promised reward.** Work, evaluations and reputation give no claim to payment. A reward may come late, be vetoed,
  be computed anew, or never be paid.
- **No promised service.** The pool may change, pause, lose work in progress or end without notice.
- **No accounts, no custody, no insurance.** The pool holds nothing for you and cannot restore what you lose.
- **Your keys, your fees, your stake.** You alone answer for your keys and devices, for fees of the network, and for
  what you stake.
- **No advice.** Nothing here is advice on money, law or tax.
- **Liability.** As far as the law allows, nobody who writes or runs this pool is liable for damage from its use.
"""


@api.get("/health")
def health() -> dict[str, Any]:
    """Window, block and what is known of the chain; 200 as long as the app runs."""
    settings = PoolSettings.current()
    try:
        vitals, reachable = store.vitals(), True
    except (Unavailable, RuntimeError):
        vitals, reachable = Vitals(None, 0.0, store.contract_of(None), {}, None), False
    stale = clock.now() - vitals.observed_at > settings.chain_stale_s
    window = domain.window_at(vitals.block or 0, settings)
    return {
        "status": "healthy" if reachable and not stale else "degraded",
        "window_number": window.number,
        "current_block": vitals.block or 0,
        "time_remaining_s": window.seconds_left,
        "tempo": {
            "window_blocks": settings.blocks_per_window,
            "block_seconds": settings.block_seconds,
            "window_start_block": window.start_block,
            "source": "chain",
            "stale": stale,
        },
        "onchain_runtime": _onchain(vitals, settings),
    }


@api.get("/status", listed=False)
def status() -> dict[str, Any]:
    """The same under the name that older verifiers poll."""
    if not PoolSettings.current().compat_status_route:
        raise NotFound("Not Found", code="route_not_found")
    answer: dict[str, Any] = health()
    return answer


def _onchain(vitals: Vitals, settings: PoolSettings) -> dict[str, Any]:
    """Every part is there whatever is enabled: readers look into all of them."""
    contract, now = vitals.contract, clock.now()
    veto = contract.vetoes > 0
    claimable = any(opens <= now for opens in vitals.epochs.values())
    published = vitals.published_at
    alive = published is not None and now - published <= 2 * max(settings.windows_interval, 60)
    publisher = {"name": "publisher", "running": alive, "last_success_at": _stamp(published)}
    return {
        "enabled": settings.onchain_enabled,
        "contract_status": {
            "active_veto_count": contract.vetoes,
            "is_veto_active": veto,
            "claim_ready": claimable and not veto and not contract.paused,
            "read_error": contract.read_error,
            "contract": settings.onchain_contract or None,
            "paused": contract.paused,
            "read_at": _stamp(contract.read_at),
        },
        "proof_api": {
            "enabled": settings.merkle_claim_enabled,
            "path_prefix": settings.claim_prefix,
            "simulation_enabled": settings.claim_simulation_enabled,
        },
        "accounts": {"publisher": settings.onchain_publisher or None},
        "processes": [publisher] if settings.onchain_enabled else [],
        "verifier_diagnostics": {"verifier_count": len(settings.verifier_hotkeys)},
    }


def _stamp(at: float | None) -> str | None:
    return None if at is None else clock.stamp_seconds(at)


@api.get("/api/v1/disclaimer", fresh_for=_DISCLAIMER_SECONDS)
def disclaimer() -> dict[str, Any]:
    """What using the pool means, as JSON."""
    return {
        "title": "Disclaimer",
        "version": "1",
        "updated_at": _DAY_OF_DISCLAIMER,
        "format": "markdown",
        "content": _DISCLAIMER,
        "sha256": hashlib.sha256(_DISCLAIMER.encode()).hexdigest(),
    }


def disclaimer_text() -> Answer:
    """What using the pool means, as Markdown."""
    return Answer(_DISCLAIMER.encode(), content_type="text/markdown; charset=utf-8")


for _path in ("/api/v1/disclaimer.md", "/disclaimer.md"):
    api.get(_path, content_type="text/markdown", fresh_for=_DISCLAIMER_SECONDS)(disclaimer_text)


# ---- miners


@api.post("/api/v1/miners/register", auth=asking, body=RegisterRequest)
def register(request: Request, caller: Caller) -> Registration:
    """Register, or say that one is still there."""
    routes_tasks.body_of(request, RegisterRequest)
    created = caller.miner.registered_at is None
    if created and PoolSettings.current().registration_mode == "metagraph":
        _check_on_subnet(caller.hotkey)
    now = clock.now()
    first: list[Miner] = [caller.miner]
    found = until_decided(
        lambda: store.register(first.pop() if first else store.miner(caller.hotkey), now, caller.guard)
    )
    if created:
        routes_tasks.start_round(now)
    return Registration(
        status="registered" if created else "refreshed",
        created=created,
        miner_hotkey=found.hotkey,
        reputation=found.reputation / consensus.MILLION,
        registered_at=clock.stamp_seconds(found.registered_at or now),
        last_seen_at=clock.stamp_seconds(found.last_seen_at),
        recipient_coldkey=found.recipient,
    )


def _check_on_subnet(hotkey: str) -> None:
    known = chain.snapshot("pool")
    if known is None or hotkey not in known.subnet.by_hotkey:
        raise Forbidden("Hotkey is not registered on the subnet", code="not_on_subnet")


@api.get("/api/v1/miners/stats", auth=reading, refusals={404: "Never registered."})
def stats(caller: Caller) -> dict[str, Any]:
    """The caller's record, its window, and the pool's."""
    miner, now = caller.miner, clock.now()
    if miner.registered_at is None:
        raise NotFound("Miner not found", code="miner_not_found")
    window = routes_tasks.current_window(caller.head)
    found = store.figures(miner.hotkey, window)
    activity = found.activity
    ranks = {entry["hotkey"]: number for number, entry in enumerate(found.top["entries"], start=1)}
    active = miner.active if domain.is_busy(miner, now) else None
    counters = {name: miner.counters.get(name, 0) for name in store.COUNTERS if name != "expired"}
    return {
        "miner": {
            "miner_hotkey": miner.hotkey,
            "reputation": miner.reputation / consensus.MILLION,
            "rank": ranks.get(miner.hotkey),
            **counters,
            "active_assignment": active
            and {"id": active["id"], "kind": active["kind"], "timeout_at": clock.stamp_seconds(active["until"])},
            "window": {
                "window_number": window,
                "evaluations_considered": activity.get("evaluations_considered", 0),
                "evolutions_considered": activity.get("evolutions_considered", 0),
                "in_consensus": activity.get("agreements", 0) > 0,
            },
            "registered_at": clock.stamp_seconds(miner.registered_at),
            "last_seen_at": clock.stamp_seconds(miner.last_seen_at),
        },
        "pool": _pool_figures(found, window),
    }


def _pool_figures(found: store.Figures, window: int) -> dict[str, Any]:
    settings = PoolSettings.current()
    totals = store.totals(found.shards, clock.now())
    known = {sota.task_type: sota.score for sota in found.sotas}
    return {
        "window_number": window,
        "active_miners": totals["active"],
        "total_miners": totals["miners"],
        "total_reputation": totals["reputation"] / consensus.MILLION,
        "algorithms_total": totals["algorithms"],
        "algorithms_in_evaluation": totals["evaluating"],
        "results_verified": totals["verified"],
        "sota": {task: known.get(task, settings.sota_floor) for task in settings.enabled_task_types},
    }


@api.get("/api/v1/pool", fresh_for=0)
def pool_figures() -> dict[str, Any]:
    """The pool's figures alone, for everybody."""
    found = store.figures()
    return _pool_figures(found, routes_tasks.current_window(found.head))


@api.get("/api/v1/miners/leaderboard", fresh_for=caching.BLOCK)
def leaderboard(query: LeaderboardQuery) -> dict[str, Any]:
    """The best miners by reputation, at most ten seconds old."""
    top, head = store.leaderboard()
    rows = [
        {
            "rank": rank,
            "miner_hotkey": entry["hotkey"],
            "reputation": entry["reputation"] / consensus.MILLION,
            "agreements": entry["agreements"],
            "evolutions_verified": entry["evolutions_verified"],
        }
        for rank, entry in enumerate(top["entries"][: query.limit], start=1)
    ]
    return {"miners": rows, "count": len(rows), "window_number": routes_tasks.current_window(head)}


# ---- recipients


def update_recipient(request: Request) -> dict[str, Any]:
    """Say which coldkey a hotkey is paid to; epochs published later pay it."""
    hotkey, timestamp, signature = headers_of(request)
    recipient = _recipient_in(request.json)
    check_signature(hotkey, signature, f"recipient_coldkey:update:{request.header('X-Timestamp')}:{recipient}")
    found = store.miner(hotkey)
    if found.banned:
        raise Forbidden("Miner is banned", code="banned")
    domain.check_recipient_order(found, timestamp, recipient)
    now = clock.now()
    store.set_recipient(hotkey, recipient, timestamp, now)
    return {
        "status": "success",
        "miner_hotkey": hotkey,
        "recipient_coldkey": recipient,
        "updated_at": clock.stamp_seconds(now),
        "effective_from_window": routes_tasks.current_window(chain.head()) + 1,
    }


def _recipient_in(body: Any) -> str:
    """Either name of the field; both only if they agree."""
    if not isinstance(body, dict):
        raise Invalid([problem("dict_type", ["body"], "Input should be an object")], code="invalid_request")
    given = [body[name] for name in ("recipient_coldkey", "coldkey_address") if body.get(name) is not None]
    texts = {text.strip() for text in given if isinstance(text, str)}
    if len(texts) != 1 or not all(isinstance(text, str) for text in given):
        raise Invalid("Invalid recipient_coldkey", code="invalid_recipient")
    (recipient,) = texts
    if not _is_address(recipient):
        raise Invalid("Invalid recipient_coldkey", code="invalid_recipient")
    return recipient


def _is_address(text: str) -> bool:
    try:
        keys.public_key(text)
    except keys.BadAddress:
        return False
    return True


for _method, _path in (
    ("PUT", "/api/v1/miners/recipient-coldkey"),
    ("POST", "/api/v1/miners/recipient-coldkey"),
    ("POST", "/api/v1/miners/coldkey_address/update"),
    ("POST", "/coldkey_address/update"),
):
    api.route(_method, _path, auth=recipient_update, refusals={409: "Older than the last.", 422: "No address."})(
        update_recipient
    )


@api.get("/api/v1/miners/recipient-coldkey", auth=reading, refusals={404: "Not set."})
def own_recipient(caller: Caller) -> dict[str, Any]:
    """The coldkey that the caller is paid to."""
    return _recipient_answer(caller.miner)


@api.get("/api/v1/miners/recipient-coldkey/{hotkey}", fresh_for=0, refusals={404: "Not set.", 422: "No address."})
def recipient_of(hotkey: str) -> dict[str, Any]:
    """The coldkey that a hotkey is paid to."""
    if not _is_address(hotkey):
        raise Invalid([problem("value_error", ["path", "miner_hotkey"], "not an SS58 address")], code="invalid_request")
    return _recipient_answer(store.miner(hotkey))


def _recipient_answer(miner: Miner) -> dict[str, Any]:
    if miner.recipient is None:
        raise NotFound("Recipient coldkey not set", code="recipient_not_set")
    return {
        "miner_hotkey": miner.hotkey,
        "recipient_coldkey": miner.recipient,
        "updated_at": clock.stamp_seconds(miner.recipient_at),
    }
