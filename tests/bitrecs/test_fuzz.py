"""Whatever a gist holds, it is an artifact or a refusal: `CI_SCALE=17` tries a million files."""

from __future__ import annotations

import random

import yaml

from chalicelib.bitrecs import domain, domain_artifact, domain_policy
from chalicelib.bitrecs.contracts import BitrecsSettings
from chalicelib.kernel.errors import Malformed
from tests.bitrecs.world import Configure, World, artifact
from tests.harness.scale import scaled
from tests.harness.wallets import wallet

LIMITS = domain.policy_limits(BitrecsSettings())
LONGEST_REASON = 4_000
GOOD = yaml.safe_dump(artifact(wallet("miner").hotkey, fewshot_examples=[{"role": "user", "content": "a"}]))
PIECES = [
    *"[]{}:,-?&*!|>'\"%@`#~=\n\t \\", "a: ", "b:", "- ", "-\n", "? ", ": ", "<<: ", "!!str ", "&a ", "*a", "---\n",
    "!!python/object:os.system ", "...\n", "%YAML 1.1\n", "%TAG ! x\n", "|2\n ", ">-\n  x\n", "\\x41", '"\\U0010ffff"',
    '"\\ud800"', '"\\U00110000"', "\x00", "\x07", "\x85", "\u2028", "\ufeff", "\U0001f600", "é", "null", "true", "1",
    "-1", "1e99", "0x7f", "9" * 40, ".inf", ".nan", "2026-99-99", "{{", "}}", "{%", "%}", "{#", "#}", "{{ sku }}",
    "{{ sku | x }}", "{{product_catalog}}", "name: ", "version_num: ", "sampling_params:\n  temperature: ",
    "agent_id: ", "B0B9C3C8SS",
]  # fmt: skip


def verdict(text: str) -> str:
    """What the artifact's rules say of a file, nothing when it is in order; any other exception would be our fault."""
    try:
        domain_policy.check_policy(domain_artifact.parse(text), text, LIMITS)
    except Malformed as refusal:
        return str(refusal.detail)
    return ""


def noise(dice: random.Random) -> str:
    return "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 12)))


def mutated(dice: random.Random) -> str:
    """A good artifact with something else somewhere, or with a field that says something else."""
    if dice.random() < 0.5:
        lines = GOOD.splitlines()
        at = dice.randrange(len(lines))
        lines[at] = lines[at].partition(":")[0] + ": " + noise(dice)
        return "\n".join(lines)
    at = dice.randrange(len(GOOD))
    return GOOD[:at] + noise(dice) + GOOD[at + dice.randrange(30) :]


def test_no_file_is_ever_a_fault_of_ours() -> None:
    dice = random.Random(2)
    said: set[str] = set()
    for number in range(scaled(60_000)):
        reason = verdict(mutated(dice) if number % 20 == 0 else noise(dice))
        assert len(reason) < LONGEST_REASON
        said.add(reason[:60])

    assert len(said) > 30, "the fuzz reaches too few rules"


def test_a_file_that_is_refused_is_400_all_the_way(world: World, configure: Configure) -> None:
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="100000", BITRECS_GIST_FETCHES_PER_MIN="100000")
    dice = random.Random(3)
    statuses = {world.miner("a", text=mutated(dice)).check().status for _ in range(scaled(25))}

    assert statuses <= {200, 400}
    assert 400 in statuses


def test_the_good_file_is_good() -> None:
    assert verdict(GOOD) == ""
