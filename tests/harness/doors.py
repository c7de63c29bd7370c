"""The app for somebody whom every door lets in: what lies behind them is swept as well."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Mapping

import app as app_module
from chalicelib.bitrecs.routes_gate import Reader
from chalicelib.experts.routes_delivery import Caller as ExpertsCaller
from chalicelib.kernel import mounts
from chalicelib.kernel.http import App
from chalicelib.kernel.routing import Auth, Route, Router
from chalicelib.pool.contracts_records import Miner
from chalicelib.pool.routes_auth import Caller as PoolCaller
from tests.harness.wallets import wallet

INSIDER = wallet("insider").hotkey
# What a door hands to its route, by the type that it promises.
CALLERS: dict[object, object] = {
    str: INSIDER,
    type(None): None,
    PoolCaller: PoolCaller(Miner(INSIDER, registered_at=1.0), token="0" * 64, guarded=True),
    ExpertsCaller: ExpertsCaller("0" * 64, INSIDER),
    Reader: Reader(has_key=True),
}


def opened(mounted: Mapping[str, str]) -> App:
    """Every mount with its doors open; routes whose door hands over more than is known here are left out."""
    built = App("inside", configure_logs=False)
    mounts.mount_all(built, mounted, {name: _opened(router) for name, router in app_module.ROUTERS.items()})
    return built


def opens(route: Route) -> bool:
    return route.auth is None or _promised(route.auth) in CALLERS


def _opened(router: Router) -> Router:
    changed = copy.copy(router)
    changed.routes = [dataclasses.replace(route, auth=_door(route.auth)) for route in router.routes if opens(route)]
    return changed


def _promised(auth: Auth) -> object:
    return typing.get_type_hints(auth.check)["return"]


def _door(auth: Auth | None) -> Auth | None:
    if auth is None:
        return None
    caller = CALLERS[_promised(auth)]
    return dataclasses.replace(auth, check=lambda _request: caller)
