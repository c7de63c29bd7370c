"""The Chalice app: mounts the systems that this deployment serves and registers their tasks. No logic."""

from __future__ import annotations

from chalicelib.bitrecs import routes as bitrecs_routes
from chalicelib.bitrecs import tasks as bitrecs_tasks
from chalicelib.experts import routes as experts_routes
from chalicelib.experts import tasks as experts_tasks
from chalicelib.kernel import mounts, tasks
from chalicelib.kernel.http import App
from chalicelib.kernel.jobs import APP_NAME
from chalicelib.kernel.settings import KernelSettings
from chalicelib.leoma import routes as leoma_routes
from chalicelib.leoma import tasks as leoma_tasks
from chalicelib.pool import routes as pool_routes
from chalicelib.pool import tasks as pool_tasks
from chalicelib.prism import routes as prism_routes
from chalicelib.prism import tasks as prism_tasks

ROUTERS = {
    "prism": prism_routes.api,
    "pool": pool_routes.api,
    "experts": experts_routes.api,
    "bitrecs": bitrecs_routes.api,
    "leoma": leoma_routes.api,
    "claims": pool_routes.claims,
}
JOBS = (tasks.jobs, prism_tasks.jobs, pool_tasks.jobs, experts_tasks.jobs, bitrecs_tasks.jobs, leoma_tasks.jobs)


def build() -> App:
    """An app with the mounts of the current settings."""
    built = App(APP_NAME, configure_logs=False)
    built.api.binary_types = ["*/*"]
    mounts.mount_all(built, mounts.parse(KernelSettings.current().mounts, ROUTERS), ROUTERS)
    for jobs in JOBS:
        built.register_blueprint(jobs.blueprint)
    return built


app = build()
