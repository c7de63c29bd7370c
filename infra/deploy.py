"""Deploy, check and remove a stage: `python -m infra.deploy plan|apply|finish|smoke|destroy --stage dev`.

`apply` does what `make deploy` promises, in this order: layers, a plan to agree to, the stack, `.chalice/config.json`,
`chalice deploy`, event sources, the gateway's own answers, a check. Every step may be repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra import changes, cloud, consent, gateway, removal, smoke, stack, stages, supply, template
from infra.cloud import Place, client
from infra.consent import Agree
from infra.stages import Pin
from infra.template import Supplies


class Refused(RuntimeError):
    """The operator said no, or what was asked cannot be."""


def plan(stage: str) -> None:
    """Say what `apply` would change in the stack, and change nothing."""
    pinned = _pinned(stages.read(), stage, cloud.place())
    built = _template(pinned, stage, _supplies(pinned, stage))
    prepared = changes.prepare(client, stage, built)
    _show(prepared)
    changes.discard(client, prepared)


def apply(stage: str, agree: Agree) -> str:
    """The whole deployment; answers the API's URL."""
    pinned = _pinned(stages.read(), stage, cloud.place())
    stack.make_room(client("cloudformation"), stack.stack_name(stage))
    supplies = _supplies(pinned, stage)
    _change(stage, _template(pinned, stage, supplies), agree)
    pinned = _with_layers(pinned, stage, supplies)
    stages.write(pinned)
    _chalice(stage, "deploy")
    _change(stage, _template(pinned, stage, Supplies(supplies.layers, supplies.images)), lambda _: True)
    finish(stage)
    smoke.check(url(stage))
    return url(stage)


def finish(stage: str) -> None:
    """What a `chalice deploy` typed by hand leaves undone: the gateway's own answers and its throttles."""
    gateway.finish(client("apigateway"), api(stage)["rest_api_id"], stage)
    supply.keep_state(client, stage)


def destroy(stage: str, confirmed: str, *, data: bool) -> None:
    """Remove API, functions and stack; tables and buckets stay, unless `data` is asked for and confirmed as well."""
    _confirm(f"This removes the stage {stage}. Type its name: ", stage, confirmed)
    pinned = _pinned(stages.read(), stage, cloud.place())
    built = _template(pinned, stage, Supplies())
    supply.restore_state(client, stage)
    if supply.state_file(stage).exists():
        _chalice(stage, "delete")
    stack.delete(client("cloudformation"), stack.stack_name(stage))
    if not data:
        print("tables and buckets are still there; a new deployment takes them over")
        return
    _confirm(f"This deletes all data of {stage} for good. Type `delete {stage}`: ", f"delete {stage}", confirmed)
    for name in removal.remove_data(client, stage, built):
        print(f"deleted {name}")


def api(stage: str) -> dict[str, Any]:
    """What Chalice remembers of the API it deployed, from here or from another machine."""
    file = supply.state_file(stage)
    if not file.exists():
        supply.restore_state(client, stage)
    if not file.exists():
        raise Refused(f"stage {stage} was not deployed from here: run `make deploy STAGE={stage}`")
    resources = json.loads(file.read_text("utf-8"))["resources"]
    found: dict[str, Any] = next(item for item in resources if item["resource_type"] == "rest_api")
    return found


def url(stage: str) -> str:
    known = api(stage)
    return cloud.api_url(known["rest_api_id"], stage, known["rest_api_url"])


def _pinned(config: dict[str, Any], stage: str, place: Place) -> dict[str, Any]:
    """The configuration with this account in it; a stage that lives in another account or region is left alone."""
    if stage not in config["stages"]:
        raise Refused(f"there is no stage {stage} in {stages.FILE}: it has {', '.join(config['stages'])}")
    pin = stages.pin_of(config, stage)
    lives = (pin.account, config["stages"][stage].get("region", place.region))
    if pin.account != stages.EMULATOR_ACCOUNT and lives != (place.account, place.region):
        raise Refused(f"stage {stage} lives in {lives}, the credentials at hand are for {place.account} {place.region}")
    moved = stages.derived(config, {stage: Pin(place.account, place.partition, pin.layers)})
    moved["stages"][stage]["region"] = place.region
    return moved


def _supplies(pinned: dict[str, Any], stage: str) -> Supplies:
    images = pinned["stages"][stage].get("images", {})
    layers = supply.publish_layers(client, stage, stages.systems(pinned, stage))
    return Supplies(layers, images, supply.existing_functions(client, stage))


def _template(pinned: dict[str, Any], stage: str, supplies: Supplies) -> dict[str, Any]:
    variables = stages.variables(pinned, stage)
    return template.build(stage, systems=stages.systems(pinned, stage), variables=variables, supplies=supplies)


def _change(stage: str, built: dict[str, Any], agree: Agree) -> None:
    adopted = changes.adopt(client, stage, built)
    if adopted:
        print(f"took over {', '.join(adopted)}, which had been left behind")
    prepared = changes.prepare(client, stage, built)
    _show(prepared)
    lost = [change.key for change in prepared.changes if change.loses_data]
    if prepared.changes and (lost or not agree(f"Change the stack of {stage} so? [y/N] ")):
        changes.discard(client, prepared)
        raise Refused(f"this would lose the data of {', '.join(lost)}" if lost else "nothing was changed")
    changes.execute(client, prepared)
    stack.expire_items(client("dynamodb"), built)


def _with_layers(pinned: dict[str, Any], stage: str, supplies: Supplies) -> dict[str, Any]:
    """The configuration with the ARNs of the layer versions that the stack just published."""
    outputs = stack.outputs(client("cloudformation"), stack.stack_name(stage))
    arns = {name: outputs[template.layer_key(name)] for name in supplies.layers}
    pin = stages.pin_of(pinned, stage)
    return stages.derived(pinned, {stage: Pin(pin.account, pin.partition, arns)})


def _chalice(stage: str, verb: str) -> None:
    """Exactly what an operator would type."""
    supply.restore_state(client, stage)
    command = [str(Path(sys.executable).parent / "chalice"), verb, "--stage", stage]
    print("$ " + " ".join(["chalice", *command[1:]]))
    done = subprocess.run(command, cwd=supply.ROOT, check=False)
    if done.returncode:
        raise Refused(f"chalice {verb} failed")


def _show(prepared: changes.Plan) -> None:
    for change in prepared.changes:
        print(f"  {change}")
    print(f"{len(prepared.changes)} changes to {prepared.stack}" if prepared.changes else "the stack stays as it is")


def _confirm(question: str, expected: str, given: str) -> None:
    if (given or input(question)) not in {expected, f"delete {expected}"}:
        raise Refused("nothing was removed")


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra.deploy", description=__doc__)
    parser.add_argument("verb", choices=["plan", "apply", "finish", "smoke", "destroy"])
    parser.add_argument("--stage", required=True)
    parser.add_argument("--yes", action="store_true", help="agree to the plan beforehand")
    parser.add_argument("--confirm", default="", help="what destroy would have you type")
    parser.add_argument("--data", action="store_true", help="destroy tables and buckets too")
    given = parser.parse_args()
    try:
        _run(given)
    except (Refused, stack.StackFailed, smoke.SmokeFailed, cloud.NoRegion) as refused:
        sys.exit(str(refused))


def _run(given: argparse.Namespace) -> None:
    match given.verb:
        case "plan":
            plan(given.stage)
        case "apply":
            print(apply(given.stage, consent.asked(beforehand=given.yes)))
        case "finish":
            finish(given.stage)
        case "smoke":
            smoke.check(url(given.stage))
        case _:
            destroy(given.stage, given.confirm, data=given.data)


if __name__ == "__main__":
    main()
