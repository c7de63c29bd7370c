"""The Chalice app: mounts the systems that this deployment serves, and registers their tasks when it is deployed."""

from __future__ import annotations

import importlib
import os

from chalicelib.bitrecs import routes as bitrecs_routes
from chalicelib.experts import routes as experts_routes
from chalicelib.kernel import mounts
from chalicelib.kernel.http import App
from chalicelib.kernel.jobs import APP_NAME, Jobs
from chalicelib.kernel.settings import KernelSettings
from chalicelib.leoma import routes as leoma_routes
from chalicelib.pool import routes as pool_routes
from chalicelib.prism import routes as prism_routes

ROUTERS = {
    "prism": prism_routes.api,
    "pool": pool_routes.api,
    "experts": experts_routes.api,
    "bitrecs": bitrecs_routes.api,
    "leoma": leoma_routes.api,
    "claims": pool_routes.claims,
}
_WITH_JOBS = ("kernel", "prism", "pool", "experts", "bitrecs", "leoma")


def jobs() -> tuple[Jobs, ...]:
    """The chain's and every system's tasks; a request needs none of them, so its cold start does not import them."""
    return tuple(importlib.import_module(f"chalicelib.{package}.tasks").jobs for package in _WITH_JOBS)


def build() -> App:
    """An app with the mounts of the current settings; Chalice's own commands see their tasks as well."""
    built = App(APP_NAME, configure_logs=False)
    built.api.binary_types = ["*/*"]
    mounted = mounts.parse(KernelSettings.current().mounts, ROUTERS)
    mounts.mount_all(built, mounted, ROUTERS)
    if "AWS_CHALICE_CLI_MODE" in os.environ:
        served = {"chain", *mounts.systems(mounted)}
        for declared in jobs():
            if declared.system in served:
                built.register_blueprint(declared.blueprint)
    return built


app = build()
