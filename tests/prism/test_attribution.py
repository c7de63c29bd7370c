"""Rows 60 to 78 of the conformance table: families, variants, holds and what operators make of them."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.prism import store
from tests.harness.race import all_at_once
from tests.harness.wallets import Wallet
from tests.prism.machine import GOOD, Machines
from tests.prism.world import ALICE, BOB, CAROL, Configure, Prism, model, recipe, two_parts

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def evaluates(machines: Machines, **metrics: float) -> None:
    machines.evaluate = lambda _event: {"metrics": {"q_arch": 0.5, "q_recipe": 0.5, **metrics}}


def family(prism: Prism) -> dict[str, Any]:
    found: dict[str, Any] = prism.get("/v1/architectures")[0]
    return found


def variants(prism: Prism) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = prism.get("/v1/training-variants")
    return found


def held(prism: Prism, machines: Machines, seed: int = 9, signer: Wallet = CAROL, **metrics: float) -> dict[str, Any]:
    """A submission that waits for an operator: it names an architecture that nobody knows."""
    evaluates(machines, **metrics)
    found = prism.processed(two_parts(model(seed), recipe(seed), family=UNKNOWN), signer)
    assert found["status"] == "held", found
    return prism.holds()[0]


def founded(prism: Prism, machines: Machines, signer: Wallet = ALICE, seed: int = 1, **metrics: float) -> str:
    evaluates(machines, **metrics)
    assert prism.processed(two_parts(model(seed), recipe(seed)), signer)["status"] == "completed"
    return str(next(found["id"] for found in prism.get("/v1/architectures") if found["owner_hotkey"] == signer.hotkey))


def test_the_first_project_founds_a_family_and_its_current_best_and_earns_everything(prism: Prism) -> None:
    done = prism.processed(two_parts(model(1), recipe(1)))
    found = family(prism)
    assert (found["owner_hotkey"], found["owner_submission_id"]) == (ALICE.hotkey, done["id"])
    assert found["canonical_submission_id"] == done["id"]
    assert [variant["is_current_best"] for variant in variants(prism)] == [True]
    assert prism.weights() == {ALICE.hotkey: 1.0}


def test_a_better_trainer_earns_beside_the_architect_and_a_hair_s_breadth_earns_nothing(
    prism: Prism, machines: Machines
) -> None:
    known = founded(prism, machines, q_arch=0.5, q_recipe=0.5)
    evaluates(machines, q_recipe=0.8)
    prism.processed(two_parts(model(1), recipe(2), kind="training_for_arch", family=known), BOB)
    shares = prism.weights()
    assert shares[ALICE.hotkey] == pytest.approx(0.5371900826446281, abs=1e-12)
    assert shares[BOB.hotkey] == pytest.approx(0.46280991735537186, abs=1e-12)
    evaluates(machines, q_recipe=0.81)
    prism.processed(two_parts(model(1), recipe(3), kind="training_for_arch", family=known), CAROL)
    assert [(found["q_recipe"], found["is_current_best"]) for found in variants(prism)] == [
        (0.8, True),
        (0.81, False),
        (0.5, False),
    ]
    assert prism.weights() == shares


def test_a_training_that_is_merely_alike_stands_for_itself_and_the_gate_decides(
    prism: Prism, machines: Machines
) -> None:
    tuned = recipe(1) + "RATE = 1\n"
    known = founded(prism, machines, q_arch=0.5, q_recipe=0.5)
    for signer, text, q_recipe in ((BOB, "RATE = 2\n", 0.8), (CAROL, "RATE = 3\n", 0.81)):
        evaluates(machines, q_recipe=q_recipe)
        changed = tuned.replace("RATE = 1\n", text + f"def more_{signer.hotkey[:6]}(): return {q_recipe}\n")
        body = two_parts(model(1), changed, kind="training_for_arch", family=known)
        assert prism.processed(body, signer)["status"] == "completed"
    found = [(one["q_recipe"], one["owner_hotkey"], one["is_current_best"]) for one in variants(prism)]
    assert found == [(0.8, BOB.hotkey, True), (0.81, CAROL.hotkey, False), (0.5, ALICE.hotkey, False)]


def test_an_architecture_alone_has_no_variant(prism: Prism) -> None:
    prism.processed(two_parts(model(1), recipe(1), kind="architecture_only"))
    assert variants(prism) == []
    assert prism.weights() == {ALICE.hotkey: 1.0}


def test_a_held_submission_counts_nowhere_and_shows_its_scores(prism: Prism, machines: Machines) -> None:
    founded(prism, machines)
    before = prism.weights()
    hold = held(prism, machines)
    found = prism.status(hold["submission_id"])
    assert (found["error"], found["q_arch"]) == ("component attribution held for review", 0.5)
    assert set(hold) == {"id", "submission_id", "status", "reason", "confidence", "created_at", "updated_at"}
    assert (hold["status"], hold["confidence"]) == ("pending", 0.0)
    assert "requested architecture was not found" in hold["reason"]
    assert len(prism.get("/v1/architectures")) == 1
    assert CAROL.hotkey not in {entry["hotkey"] for entry in prism.get("/v1/leaderboard")["entries"]}
    assert prism.weights() == before


def test_alike_is_existing_half_alike_is_held_unlike_is_new(prism: Prism, machines: Machines) -> None:
    founded(prism, machines)
    nearly = model(1).replace("self.step_1_0(1)", "self.other(1)")
    half = (
        model(1).replace("torch.op_1_1", "torch.one_").replace("torch.op_1_2", "torch.two_")
    )  # the methods stay, what they call does not
    assert prism.processed(two_parts(nearly, recipe(2)), BOB)["status"] == "completed"
    assert len(prism.get("/v1/architectures")) == 1
    found = prism.processed(two_parts(half, recipe(3)), CAROL)
    assert (found["status"], prism.holds()[0]["reason"][:45]) == (
        "held",
        "architecture=ambiguous architecture similarity"[:45],
    )
    prism.processed(two_parts(model(6), recipe(6)), CAROL)
    assert len(prism.get("/v1/architectures")) == 2


def test_the_same_files_with_luckier_metrics_never_take_a_family_over(
    prism: Prism, machines: Machines, configure: Configure
) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    founded(prism, machines, q_arch=0.5)
    evaluates(machines, q_arch=0.9)
    prism.processed(two_parts(model(1), recipe(2)), BOB)
    found = family(prism)
    assert (found["owner_hotkey"], found["q_arch_best"]) == (ALICE.hotkey, 0.9)


@pytest.mark.parametrize(("auto", "owner"), [("1", BOB), ("0", ALICE)])
def test_a_clearly_better_like_architecture_takes_over_where_that_is_on(
    prism: Prism, machines: Machines, configure: Configure, auto: str, owner: Wallet
) -> None:
    configure(PRISM_ARCHITECTURE_AUTO_TRANSFER=auto)
    founded(prism, machines, q_arch=0.5)
    evaluates(machines, q_arch=0.9)
    nearly = model(1).replace("self.step_1_0(1)", "self.other(1)")
    prism.processed(two_parts(nearly, recipe(2)), BOB)
    found = family(prism)
    assert (found["owner_hotkey"], found["q_arch_best"]) == (owner.hotkey, 0.9)
    assert len(prism.get("/v1/architectures")) == 1
    events = prism.get(f"/v1/architectures/{found['id']}/history")
    assert [(one["scope"], one["event"], one["from_hotkey"], one["to_hotkey"]) for one in events][-1:] == [
        ("architecture", "created", None, ALICE.hotkey)
    ]
    assert ("transferred" in [one["event"] for one in events]) == (owner is BOB)
    assert prism.get("/v1/architectures/nobody/history") == []


def test_new_new_makes_a_family_and_a_variant_and_cannot_be_done_twice(prism: Prism, machines: Machines) -> None:
    founded(prism, machines)
    hold = held(prism, machines, q_arch=0.9, q_recipe=0.9)
    reply = prism.resolve(hold["id"], "new", "new", architecture_id="ignored")
    assert reply.status == 200, reply.json
    assert reply.json["accepted_architecture"] is reply.json["accepted_training"] is True
    assert reply.json["arch_points"] == pytest.approx(0.585)
    assert reply.json["training_points"] == pytest.approx(0.315)
    assert (reply.json["held"], reply.json["rejected"]) == (False, False)
    found = prism.status(hold["submission_id"])
    assert (found["status"], found["error"]) == ("completed", None)
    assert CAROL.hotkey in prism.weights()
    again = prism.resolve(hold["id"], "new", "new")
    assert (again.status, again.json["detail"]) == (404, "component review hold not found")
    assert prism.holds()[0]["status"] == "resolved"


@pytest.mark.parametrize(("architecture", "training"), [("reject", "none"), ("new", "reject"), ("reject", "reject")])
def test_a_rejection_rejects_whole(prism: Prism, machines: Machines, architecture: str, training: str) -> None:
    founded(prism, machines)
    hold = held(prism, machines)
    reply = prism.resolve(hold["id"], architecture, training, reason="bad")
    assert (reply.status, reply.json) == (200, {"rejected": True, "held": False})
    found = prism.status(hold["submission_id"])
    assert (found["status"], found["error"], found["q_arch"]) == ("rejected", "bad", 0.5)
    assert prism.holds()[0]["status"] == "rejected"
    assert prism.get("/internal/v1/component-review/holds?status=pending") == []


@pytest.mark.parametrize("action", ["hold", "none", None])
def test_an_architecture_action_is_one_of_four(prism: Prism, machines: Machines, action: str | None) -> None:
    founded(prism, machines)
    hold = held(prism, machines)
    body = {"training_action": "none"} | ({"architecture_action": action} if action else {})
    path = f"/prism/internal/v1/component-review/holds/{hold['id']}/resolve"
    assert prism.client.post(path, body, {"Authorization": "Bearer correct horse"}).status == 422


def test_a_transfer_moves_the_owner_and_never_lowers_the_best(prism: Prism, machines: Machines) -> None:
    known = founded(prism, machines, q_arch=0.62)
    hold = held(prism, machines, q_arch=0.3)
    assert prism.resolve(hold["id"], "transfer", "none", architecture_id=known).status == 200
    found = family(prism)
    assert (found["owner_hotkey"], found["q_arch_best"]) == (CAROL.hotkey, 0.62)
    assert (found["owner_submission_id"], found["canonical_submission_id"]) == (hold["submission_id"],) * 2
    earned = {ALICE.hotkey: 0.35 * 0.5, CAROL.hotkey: 0.65 * 0.62}
    assert prism.weights() == pytest.approx({who: worth / sum(earned.values()) for who, worth in earned.items()})


@pytest.mark.parametrize(("mean", "accepted"), [(0.95, False), (0.96, True)])
def test_a_training_moves_only_over_its_gate(prism: Prism, machines: Machines, mean: float, accepted: bool) -> None:
    known = founded(prism, machines, q_recipe=0.90)
    variant = variants(prism)[0]["id"]
    hold = held(prism, machines, q_recipe=mean)
    reply = prism.resolve(hold["id"], "existing", "transfer", architecture_id=known, training_variant_id=variant)
    assert (reply.json["accepted_training"], reply.json["training_variant_id"]) == (accepted, variant)
    assert prism.status(hold["submission_id"])["status"] == "completed"
    (found,) = variants(prism)
    assert (found["owner_hotkey"], found["is_current_best"]) == ((CAROL if accepted else ALICE).hotkey, True)


MATRIX = {
    ("new", "none"): 200, ("new", "new"): 200, ("new", "existing"): 422, ("new", "transfer"): 422,
    ("existing", "none"): 200, ("existing", "new"): 200, ("existing", "existing"): 200, ("existing", "transfer"): 200,
    ("transfer", "none"): 200, ("transfer", "new"): 200, ("transfer", "existing"): 200, ("transfer", "transfer"): 200,
    **{("reject", training): 200 for training in ("none", "new", "existing", "transfer", "reject")},
    **{(architecture, "reject"): 200 for architecture in ("new", "existing", "transfer")},
}  # fmt: skip


@pytest.mark.parametrize(("actions", "status"), MATRIX.items(), ids=str)
def test_every_combination_has_its_outcome(
    prism: Prism, machines: Machines, actions: tuple[str, str], status: int
) -> None:
    known = founded(prism, machines)
    variant = variants(prism)[0]["id"]
    hold = held(prism, machines)
    reply = prism.resolve(hold["id"], *actions, architecture_id=known, training_variant_id=variant)
    assert reply.status == status, reply.json
    expected = "held" if status != 200 else "rejected" if "reject" in actions else "completed"
    assert prism.status(hold["submission_id"])["status"] == expected
    if expected == "completed":
        assert (reply.json["training_variant_id"] is None) == (actions[1] == "none")
        assert sum(found["is_current_best"] for found in variants(prism)) == len(
            {found["architecture_id"] for found in variants(prism) if found["is_current_best"]}
        )


@pytest.mark.parametrize(
    ("actions", "more", "refusal"),
    [
        (("existing", "none"), {"architecture_id": UNKNOWN}, (404, "architecture not found")),
        (("transfer", "none"), {}, (422, "architecture_id is required")),
        (("existing", "transfer"), {"training_variant_id": UNKNOWN}, (404, "training variant not found")),
        (("existing", "existing"), {}, (422, "training_variant_id is required")),
        (
            ("existing", "transfer"),
            {"training_variant_id": "foreign"},
            (409, "training variant belongs to another architecture"),
        ),
    ],
)
def test_what_a_resolution_names_must_exist_and_a_wrong_one_changes_nothing(
    prism: Prism, machines: Machines, actions: tuple[str, str], more: dict[str, str], refusal: tuple[int, str]
) -> None:
    known = founded(prism, machines)
    founded(prism, machines, BOB, 2)
    foreign = next(found["id"] for found in variants(prism) if found["owner_hotkey"] == BOB.hotkey)
    hold = held(prism, machines)
    if "training_variant_id" in more or actions[1] != "none":
        more = {"architecture_id": known} | {
            key: foreign if value == "foreign" else value for key, value in more.items()
        }
    reply = prism.resolve(hold["id"], *actions, **more)
    assert (reply.status, reply.json["detail"]) == refusal
    assert prism.holds()[0]["status"] == "pending"
    assert prism.status(hold["submission_id"])["status"] == "held"


def test_an_architecture_alone_ignores_what_is_said_of_training(prism: Prism, machines: Machines) -> None:
    founded(prism, machines)
    body = two_parts(model(9), recipe(9), kind="architecture_only", family=UNKNOWN)
    assert prism.processed(body, CAROL)["status"] == "held"
    reply = prism.resolve(prism.holds()[0]["id"], "new", "new")
    assert (reply.status, reply.json["training_variant_id"]) == (200, None)


def test_a_family_is_registered_once(prism: Prism, machines: Machines, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    founded(prism, machines)
    first, second = held(prism, machines), held(prism, machines, signer=BOB)
    assert prism.resolve(first["id"], "new", "new").status == 200
    reply = prism.resolve(second["id"], "new", "new")
    assert (reply.status, reply.json["detail"]) == (409, "architecture family already exists")
    assert [hold["status"] for hold in prism.holds()] == ["pending", "resolved"]


def test_of_two_operators_one_is_too_late(prism: Prism, machines: Machines) -> None:
    founded(prism, machines)
    hold = held(prism, machines)
    replies = all_at_once([lambda: prism.resolve(hold["id"], "new", "new")] * 6)
    assert sorted(reply.status for reply in replies) == [200] + [404] * 5
    assert len(prism.get("/v1/architectures")) == 2


def test_who_finds_the_family_that_a_faster_operator_founded_is_too_late(
    prism: Prism, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    founded(prism, machines)
    hold = held(prism, machines)
    read, faster = store.get_reviewed, []

    def overtaken(submission_id: str) -> Any:
        monkeypatch.setattr(store, "get_reviewed", read)
        faster.append(prism.resolve(hold["id"], "new", "new").status)
        return read(submission_id)

    monkeypatch.setattr(store, "get_reviewed", overtaken)
    assert (prism.resolve(hold["id"], "new", "new").status, faster) == (404, [200])


def test_parallel_resolutions_of_one_architecture_found_it_once(
    prism: Prism, machines: Machines, configure: Configure
) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    founded(prism, machines)
    holds = [held(prism, machines, signer=signer) for signer in (ALICE, BOB, CAROL)]
    replies = all_at_once([lambda hold=hold: prism.resolve(hold["id"], "new", "new") for hold in holds])  # type: ignore[misc] # binds hold
    assert sorted(reply.status for reply in replies) == [200, 409, 409]
    assert len(prism.get("/v1/architectures")) == 2


def test_without_component_rewards_the_epoch_s_scores_count(
    prism: Prism, machines: Machines, configure: Configure
) -> None:
    configure(PRISM_COMPONENT_REWARDS_ENABLED="0", PRISM_PLAGIARISM_ENABLED="0")
    machines.evaluate = lambda _event: {"metrics": {**GOOD, "penalty": 0.0}}
    first = prism.processed(two_parts(model(1), recipe(1)))
    second = prism.processed(two_parts(model(2), recipe(2)), BOB)
    total = first["final_score"] + second["final_score"]
    assert prism.weights() == pytest.approx(
        {ALICE.hotkey: first["final_score"] / total, BOB.hotkey: second["final_score"] / total}
    )
    assert prism.get("/v1/architectures") == []
