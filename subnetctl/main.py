"""The command tree, and the one place where a failure becomes a sentence and an exit status."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from chalicelib.kernel import flows
from chalicelib.kernel.errors import Refusal
from chalicelib.kernel.settings import KernelSettings, SettingError

from . import api, cloud, examples, remedies, signing, terminal, wallets

_FEW = 10
SYSTEMS = ("prism", "pool", "experts", "bitrecs", "leoma")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Operate, mine on and validate with Subnet Functions. Every command answers programs with --json.",
)
chain = typer.Typer(no_args_is_help=True, help="The copy of chain state that every system reads.")
app.add_typer(chain, name="chain")


@chain.command("sync")
def chain_sync() -> None:
    """Copy the chain now, and what each system derives from it."""
    cloud.connect()
    outcome = {"chain": flows.invoke("chain-tick", {"run": "chain"})} | _on_every_system("chain")
    terminal.result(outcome, human="the chain is copied")


@chain.command("commit")
def chain_commit(
    system: Annotated[str, typer.Argument(help="The subnet: prism, pool, experts, bitrecs or leoma.")],
    data: Annotated[str, typer.Argument(help="What the commitment says.")],
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
) -> None:
    """Local mode: put a hotkey's commitment on the laptop's chain, and copy the chain."""
    from chalicelib.kernel import chain as copied  # noqa: PLC0415 - few commands read it

    if system not in SYSTEMS:
        terminal.refuse(f"a subnet is one of {', '.join(SYSTEMS)}, not {system}", code="unknown_system")
    address = wallets.load(wallet_name, hotkey, wallet_path).address
    cloud.connect()
    if KernelSettings.current().stage != "local":
        terminal.refuse("on a live chain a commitment is a transaction of your own: use btcli", code="not_local")
    flows.invoke("chain-tick", {"run": "chain"})
    head = copied.head()
    made = {"hotkey": address, "block": head.block if head else 0, "data": data}

    def with_commitment(content: Any) -> Any:
        content["subnets"][system].setdefault("commitments", []).append(made)
        return content

    cloud.change_chain_file(with_commitment)
    flows.invoke("chain-tick", {"run": "chain"})
    terminal.result(made, human=f"{address} has committed at block {made['block']}")


@app.command()
def sweep() -> None:
    """Run every expiry, validation, round and snapshot job now, and restart lost work."""
    cloud.connect()
    outcome = {"chain": flows.invoke("chain-tick", {"run": "sweep"})} | _on_every_system("sweep")
    terminal.result(outcome, human="swept " + ", ".join(outcome))


@app.command()
def cost(
    miners: Annotated[int, typer.Option(min=0, help="Miners that take part, per subnet.")] = 256,
    validators: Annotated[int, typer.Option(min=0, help="Validators, per subnet.")] = 20,
    system: Annotated[list[str] | None, typer.Option(help="What is deployed; may be repeated. Default: all.")] = None,
    viewers: Annotated[int, typer.Option(min=0, help="People with a dashboard open, eight hours a day.")] = 2,
    tasks_per_day: Annotated[float, typer.Option(min=0, help="Leoma: tasks that every validator judges.")] = 144,
    leases_per_day: Annotated[float, typer.Option(min=0, help="Pool: leases per miner.")] = 24,
    submissions_per_day: Annotated[float, typer.Option(min=0, help="Projects, artifacts, checkpoints per miner.")] = 1,
    downloads_per_day: Annotated[
        float, typer.Option(min=0, help="Experts: slices per miner, models per validator.")
    ] = 1,
    slice_gb: Annotated[float, typer.Option(min=0, help="Experts: size of a group's slice.")] = 0.15,
    model_gb: Annotated[float, typer.Option(min=0, help="Experts: size of the whole model.")] = 1,
    kept_gb: Annotated[float, typer.Option(min=0, help="What the tables have grown to.")] = 20,
) -> None:
    """What a month on AWS costs, line by line, from budgets that tests assert. Asks nobody, needs no account."""
    from . import costs  # noqa: PLC0415 - no other command needs it

    wanted = system or list(SYSTEMS)
    if unknown := set(wanted) - set(SYSTEMS):
        terminal.refuse(f"--system takes {', '.join(SYSTEMS)}, not {', '.join(sorted(unknown))}", code="unknown_system")
    load = costs.Load(
        miners, validators, viewers, tasks_per_day, leases_per_day, submissions_per_day, downloads_per_day, slice_gb,
        model_gb, kept_gb,
    )  # fmt: skip
    lines = costs.bill(load, wanted)
    total = sum(line.dollars for line in lines)
    if terminal.wants_json():
        found = [dataclasses.asdict(line) for line in lines]
        terminal.result({"lines": found, "total": total, "prices": costs.PRICES_OF})
        return
    rows = [
        {
            "system": line.system,
            "what": line.what,
            "quantity": f"{line.quantity:,.{1 if line.quantity < _FEW and line.quantity % 1 else 0}f} {line.unit}",
            "USD": line.dollars,
        }
        for line in lines
    ]
    terminal.rows([*rows, {"what": "a month", "USD": total}], ("system", "what", "quantity", "USD"))
    terminal.say(f"list prices of {costs.PRICES_OF}; budgets are ceilings, so the bill should be lower")


@app.command()
def doctor(
    url: Annotated[str | None, typer.Option(help="URL of the API; default: the laptop's.")] = None,
    hotkey: Annotated[str, typer.Option("--address", help="A hotkey whose registration is looked up.")] = "",
) -> None:
    """Look at everything that usually goes wrong, and say what to do about it.

    With --url and no credentials of its operator, that is the API, both clocks and the version.
    """
    from .doctor import examine  # noqa: PLC0415 - no other command needs the chain

    running = cloud.laptop()
    reachable = cloud.is_given() or running is not None or url is None
    if reachable:
        cloud.connect()
    address = url or (str(running["api_url"]) if running else "http://127.0.0.1:8000")
    findings = [dataclasses.asdict(finding) for finding in examine(address.rstrip("/"), hotkey, cloud=reachable)]
    for finding in findings:
        finding["remedy"] = "" if finding["well"] else finding["remedy"]
    terminal.rows(findings, ("what", "well", "found", "remedy"))
    if not all(finding["well"] for finding in findings if finding["what"] not in SYSTEMS):
        raise typer.Exit(1)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="The `code` of a refusal; without one, all are listed.")] = "",
) -> None:
    """Say what a refusal's code means and what to do about it; docs/errors.md has the whole list."""
    known = remedies.known()
    if code and code not in known:
        near = difflib.get_close_matches(code, known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `subnetctl explain` lists those there are"
        terminal.refuse(f"there is no code {code}{hint}", code="unknown_code")
    found = [
        {"code": name, "cause": cause, "remedy": remedy}
        for name, (cause, remedy) in known.items()
        if code in {"", name}
    ]
    if code:
        terminal.result(found[0], human=f"{found[0]['cause']}\n{found[0]['remedy']}")
    else:
        terminal.rows(found, ("code", "cause", "remedy"))


@app.command()
def sign(
    message: Annotated[str, typer.Argument(help="Text to sign; with --system, the path of the request.")],
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    system: Annotated[str, typer.Option(help="Sign a request of this system: leoma, pool or prism.")] = "",
    method: Annotated[str, typer.Option(help="Method of the request.")] = "GET",
    data: Annotated[str, typer.Option(help="Body of the request, or @FILE.")] = "",
    curl: Annotated[bool, typer.Option("--curl", help="Print a working curl line.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of the mount; default: the laptop's.")] = None,
) -> None:
    """Sign a text, or a whole request of a system."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    if not system:
        terminal.result(signer.sign(message.encode()).hex())
        return
    if system not in signing.HEADERS:
        terminal.refuse(f"--system takes {', '.join(signing.HEADERS)}", code="unknown_system")
    body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    headers = signing.HEADERS[system](signer, body)
    if not curl:
        terminal.result(headers, human="\n".join(f"{name}: {value}" for name, value in headers.items()))
        return
    words = ["curl", "-X", method, *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}"))]
    if body:
        words += ["-H", "Content-Type: application/json", "--data-binary", data]
    terminal.result(shlex.join([*words, cloud.api_url(url, system) + message]))


def _on_every_system(command: str) -> dict[str, Any]:
    """Let each system's tick run the jobs of a command, side by side; one that fails fails the command, at the end."""

    def run(system: str) -> Any:
        return flows.invoke(f"{system}-tick", {"run": command})

    with ThreadPoolExecutor(len(SYSTEMS)) as pool:
        running = {system: pool.submit(run, system) for system in SYSTEMS}
    failed = [str(future.exception()) for future in running.values() if future.exception()]
    if failed:
        terminal.refuse("; ".join(failed), code="jobs_failed")
    return {system: future.result() for system, future in running.items()}


def tree(words: Sequence[str] = ()) -> Any:
    """Every command that the words may mean, with an example each; a system is imported only when it may be meant."""
    first = next((word for word in words if not word.startswith("-")), "")
    own = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands} | {"chain"}
    for system in (first,) if first in SYSTEMS else () if first in own else SYSTEMS:
        app.add_typer(importlib.import_module(f"subnetctl.{system}").app, name=system)
    root = typer.main.get_command(app)
    examples.add_to(root)
    return root


def main() -> None:
    """Run one command; every refusal ends non-zero."""
    arguments = [wallets.named_alike(word) for word in sys.argv[1:] if word not in {"--json", "--json-output"}]
    if len(arguments) < len(sys.argv) - 1:
        terminal.ask_for_json()
    command = tree(arguments)
    try:
        command(args=arguments, prog_name="subnetctl")
    except Refusal as refusal:
        _end(str(refusal.detail), refusal.code)
    except SettingError as error:
        _end(str(error), "bad_setting")
    except api.Refused as refused:
        _end(f"{refused.status}: {refused.detail}", refused.code)
    except api.Unreachable as silent:
        _end(str(silent), "no_answer")
    except flows.TaskFailed as failure:
        _end(str(failure), failure.kind)
    except ModuleNotFoundError as missing:
        _end(f"this needs {missing.name}, which comes with `pip install 'subnet-functions[server]'`", "server_missing")
    except (OSError, RuntimeError) as error:
        _end(str(error), type(error).__name__)


def _end(text: str, code: str) -> None:
    try:
        terminal.refuse(text, code=code)
    except typer.Exit as end:
        sys.exit(end.exit_code)


if __name__ == "__main__":
    main()
