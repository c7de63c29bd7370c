"""An example for every command, shown at the end of its help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
_ME = "--wallet-name miner --hotkey default"
_GIST = "--github-account octocat --gist-id 0123456789abcdef0123456789abcdef"

EXAMPLES = {
    "sweep": "sweep",
    "cost": "cost --miners 256 --validators 20 --system leoma",
    "doctor": "doctor --url https://api.example.org",
    "explain": "explain nonce_used",
    "sign": f"sign /weights --system leoma {_ME} --curl --url https://api.example.org/leoma",
    "chain sync": "chain sync",
    "chain commit": f"chain commit bitrecs GIST_COMMIT:SHA256_OF_THE_ARTIFACT {_ME}",
    "prism submit": f"prism submit my-model/ {_ME} --url https://api.example.org/prism",
    "prism process": "prism process",
    "prism holds": "prism holds --status pending",
    "prism resolve": "prism resolve HOLD --architecture existing --architecture-id FAMILY --training new",
    "prism requeue": "prism requeue SUBMISSION",
    "prism assignments": "prism assignments",
    "pool seed": "pool seed --task-type cifar10_binary",
    "pool publish-epoch": "pool publish-epoch --epoch 7 --claims claims.json",
    "pool work": f"pool work {_ME} --rounds 10 --url https://api.example.org/pool",
    "pool claim": f"pool claim --epoch 7 {_ME} --url https://api.example.org/pool/claims",
    "pool ban add": f"pool ban add {_ALICE}",
    "pool ban remove": f"pool ban remove {_ALICE}",
    "pool veto on": "pool veto on --count 1",
    "pool veto off": "pool veto off",
    "experts publish": "experts publish --model shards/ --assignment groups.json --version step_1000 --block 8239000",
    "experts phase": "experts phase",
    "experts download": f"experts download --group 0 --out slice.safetensors {_ME} --url https://api.example.org/experts",
    "experts submit": f"experts submit https://example.org/checkpoint.safetensors --group 0 {_ME}",
    "experts status": "experts status SUBMISSION",
    "experts versions": "experts versions",
    "experts rollback": "experts rollback VERSION",
    "experts token create": "experts token create",
    "experts token revoke": "experts token revoke TOKEN",
    "bitrecs check": f"bitrecs check {_GIST} {_ME}",
    "bitrecs submit": f"bitrecs submit {_GIST} {_ME} --url https://api.example.org/bitrecs",
    "bitrecs queue": "bitrecs queue --stage screener_1",
    "bitrecs api-key create": "bitrecs api-key create --label dashboard",
    "bitrecs api-key list": "bitrecs api-key list",
    "bitrecs api-key revoke": "bitrecs api-key revoke ID",
    "bitrecs validator add": f"bitrecs validator add {_ALICE} --name alice",
    "bitrecs validator remove": f"bitrecs validator remove {_ALICE}",
    "bitrecs validator list": "bitrecs validator list",
    "bitrecs ban add": f'bitrecs ban add {_ALICE} --reason "copied artifacts"',
    "bitrecs ban remove": f"bitrecs ban remove {_ALICE}",
    "bitrecs ban list": "bitrecs ban list",
    "bitrecs set create": "bitrecs set create",
    "bitrecs submissions on": "bitrecs submissions on",
    "bitrecs submissions off": "bitrecs submissions off",
    "leoma publish-task": 'leoma publish-task --task-id 7 --prefix 7 --description "a cyclist turns left"',
    "leoma rank": "leoma rank",
    "leoma submit": "leoma submit verdicts.json --wallet-name validator --url https://api.example.org/leoma",
    "leoma watch": "leoma watch --url https://api.example.org/leoma",
}
_FIRST_STEPS = (
    "An operator's command works on the laptop's cloud (`make run`), or with STAGE=dev and AWS credentials on a stage. "
    "A miner's or validator's takes --url, the API's address with the subnet's prefix, and a wallet as btcli keeps it. "
    "Start with `subnetctl doctor`."
)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    if hasattr(command, "commands"):
        for name, part in command.commands.items():
            yield from leaves(part, (*path, name))
    else:
        yield " ".join(path), command


def add_to(root: Any) -> None:
    root.epilog = _FIRST_STEPS
    for words, command in leaves(root):
        if words in EXAMPLES:
            command.epilog = f"Example: subnetctl {EXAMPLES[words]}"
