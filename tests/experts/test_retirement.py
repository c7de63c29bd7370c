"""Old versions go by rule, never under a running download, and a killed retirement is finished."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.experts import store, tasks_publishing
from tests.experts import models
from tests.experts.conftest import NOW, World
from tests.harness.crash import Killed


def test_old_versions_go_but_never_under_a_running_download(
    world: World, tiny: models.Model, freeze: Callable[[float], None]
) -> None:
    manifests = []
    for number in range(5):
        freeze(NOW + number)
        manifests.append(world.publish(models.model(seed=number), version=f"step_{number}", block=1000 + number))
    assert tasks_publishing.retire_old_versions() == []

    freeze(NOW + 7300)
    gone = tasks_publishing.retire_old_versions()

    assert gone == sorted(manifest["version_id"] for manifest in manifests[:2])
    assert [version["model_version"] for version in store.versions()] == ["step_2", "step_3", "step_4"]
    for manifest in manifests[:2]:
        assert list(store.models().list(f"models/{manifest['version_id']}/")) == []
    for manifest in manifests[2:]:
        tasks_publishing.verify(manifest)
    assert world.partial().status == 200


def test_a_retirement_that_was_killed_is_finished_by_the_next(
    world: World, freeze: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        freeze(NOW + number)
        first = world.publish(models.model(seed=number), version=f"step_{number}", block=1000 + number)["version_id"]
    freeze(NOW + 7300)
    original = store.note_retired
    monkeypatch.setattr(store, "note_retired", lambda _: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        tasks_publishing.retire_old_versions()
    monkeypatch.setattr(store, "note_retired", original)

    assert len(tasks_publishing.retire_old_versions()) == 1
    assert tasks_publishing.retire_old_versions() == []
    assert first in {version["version_id"] for version in store.versions()}
