"""What an operator may change over HTTP: API Gateway opens it to signatures with the account's own credentials."""

from __future__ import annotations

from typing import Any

from chalicelib.kernel import clock, keys
from chalicelib.kernel.errors import Conflict, Forbidden, NotFound
from chalicelib.kernel.http import Request
from chalicelib.kernel.routing import Auth
from chalicelib.kernel.values import frozen

from . import domain, domain_views, store, store_work, tasks_sets
from .contracts import BanOrder, KeyOrder, SetOrder, SwitchOrder, ValidatorOrder
from .routes_gate import api

_KEY_BYTES = 24


@frozen
class Operator:
    """The principal that signed the request."""

    arn: str


def _operator(request: Request) -> Operator:
    """The gateway has checked the signature; where no gateway did, nobody is an operator."""
    if not request.principal:
        raise Forbidden("Only the operator's AWS credentials open this", code="operator_only")
    return Operator(request.principal)


operator = Auth(
    _operator,
    "operator",
    {"Authorization": "AWS Signature Version 4 for `execute-api`."},
    {403: "Not signed with the operator's AWS credentials."},
    by_aws=True,
)


@api.put("/admin/system-enabled", auth=operator)
def switch_submissions(body: SwitchOrder) -> dict[str, bool]:
    """Take submissions, or refuse them."""
    store.switch_submissions(enabled=body.enabled)
    return {"submissions_enabled": body.enabled}


@api.put("/admin/bans", auth=operator, refusals={400: "Not an address."})
def ban(body: BanOrder, caller: Operator) -> dict[str, Any]:
    """Ban a miner, or lift its ban; a repetition changes nothing but the reason."""
    hotkey = _address(body.hotkey)
    if body.banned:
        store.ban(hotkey, body.reason, caller.arn)
    else:
        store.unban(hotkey)
    store_work.note_change()
    return {"hotkey": hotkey, "banned": body.banned, "reason": body.reason}


@api.put("/admin/validators", auth=operator, refusals={400: "Not an address."})
def list_validator(body: ValidatorOrder) -> dict[str, Any]:
    """Put a validator on the whitelist, or take it off."""
    hotkey = _address(body.hotkey)
    if body.listed:
        store.add_validator(hotkey, body.name)
    else:
        store.remove_validator(hotkey)
    return {"hotkey": hotkey, "name": body.name, "listed": body.listed}


@api.put("/admin/sets", auth=operator, refusals={409: "Neither the current set nor the next one."})
def open_set(body: SetOrder) -> dict[str, Any]:
    """Make this the current evaluation set: the next one opens, and a repetition finds it open."""
    current = tasks_sets.first_set()
    if body.set_id == current["set_id"] + 1:
        current = tasks_sets.next_set()
        store_work.note_change()
    elif body.set_id != current["set_id"]:
        text = f"The current set is {current['set_id']}; only the next one can be opened"
        raise Conflict(text, code="not_the_next_set")
    return {
        "set_id": current["set_id"],
        "created_at": domain_views.stamp(current["created_at"]),
        "first_block": current["first_block"],
        "problems": current["problems"],
    }


@api.put("/admin/api-keys", auth=operator, refusals={404: "No such key."})
def change_keys(body: KeyOrder) -> dict[str, str]:
    """Make an API key, which is shown this once; or revoke one by its id."""
    if body.revoke is None:
        key = f"br_{clock.new_hex(_KEY_BYTES)}"
        return {"id": store.add_api_key(key, body.label), "key": key}
    if not store.revoke_api_key(body.revoke):
        raise NotFound(f"There is no API key with the id {body.revoke}", code="key_not_found")
    return {"revoked": body.revoke}


def _address(hotkey: str) -> str:
    try:
        keys.public_key(hotkey)
    except keys.BadAddress:
        raise domain.malformed_hotkey(hotkey) from None
    return hotkey
