"""A reference miner: scores programs on a small suite of its own making, and evolves by changing one line.

The suite is synthetic and the same for everybody, so that independent miners agree. Whoever competes brings a scorer of
their own (`--scorer COMMAND`); this one shows the protocol and keeps a laptop's pool moving.
"""

from __future__ import annotations

import math
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from chalicelib.pool import genome

from . import terminal

Vector = list[float]
Value = Any
Scorer = Callable[[str, int], float]

TASKS = 4
SAMPLES = 60
_BIG = 1e30
_SCORER_SECONDS = 600
_WORST = 0.0
_CELL = re.compile(r"v(\d+)\[(\d+)\]")
_CALL = re.compile(r"(\w+)\((.*)\)")
_INFIX = re.compile(r"(\w+) ([-+*/]) (\w+)")
_CONSTANT = re.compile(r"= (-?[0-9.e+-]+)$")


def score(text: str, input_dim: int) -> float:
    """The median accuracy of `s0 > 0.5` over the suite; 0 for what is no program."""
    try:
        program = genome.parse(text, input_dim)
    except genome.MalformedGenome:
        return _WORST
    found = sorted(_accuracy(program, input_dim, task) for task in range(TASKS))
    return round((found[(TASKS - 1) // 2] + found[TASKS // 2]) / 2, 6)


def from_command(command: str) -> Scorer:
    """A scorer that gets the program on its standard input and prints a number."""
    words = shlex.split(command)

    def run(text: str, _input_dim: int) -> float:
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                words, input=text, capture_output=True, text=True, timeout=_SCORER_SECONDS, check=False
            )
            found = float(done.stdout)
        except subprocess.TimeoutExpired:
            terminal.refuse(f"the scorer took longer than {_SCORER_SECONDS} seconds", code="bad_scorer")
        except OSError as error:
            terminal.refuse(f"the scorer does not start: {error}", code="bad_scorer")
        except ValueError:
            found = math.nan
        if not 0 <= found <= 1:
            terminal.refuse(f"the scorer printed {done.stdout[:80]!r}, not a score from 0 to 1", code="bad_scorer")
        return found

    return run


def mutate(text: str, dice: random.Random) -> str:
    """A child: one constant is scaled, or one line of a phase is written twice."""
    lines = text.splitlines()
    constants = [number for number, line in enumerate(lines) if _CONSTANT.search(line)]
    if constants and dice.random() < 0.8:  # noqa: PLR2004 - mostly constants
        chosen = dice.choice(constants)
        value = float(lines[chosen].rpartition("=")[2])
        scaled = value * math.exp(dice.gauss(0, 0.5)) if value else dice.gauss(0, 0.1)
        lines[chosen] = _CONSTANT.sub(f"= {scaled:.6g}", lines[chosen])
    else:
        chosen = dice.choice([number for number, line in enumerate(lines) if "=" in line] or [0])
        lines.insert(chosen, lines[chosen])
    return "\n".join(lines) + "\n"


def _accuracy(program: genome.Genome, dim: int, task: int) -> float:
    dice = random.Random(1337 + 7919 * dim + task)  # noqa: S311 - a test suite, no secret
    direction = [dice.gauss(0, 1) for _ in range(dim)]
    bias = dice.gauss(0, 0.3)
    machine = Machine(dim, dice)
    machine.run(program.phases["setup"])
    right = 0
    for number in range(2 * SAMPLES):
        inputs = [dice.gauss(0, 1) for _ in range(dim)]
        label = float(sum(a * b for a, b in zip(inputs, direction, strict=True)) + bias > 0)
        machine.show(inputs)
        machine.run(program.phases["predict"])
        if number < SAMPLES:
            machine.scalars[1] = label
            machine.run(program.phases["learn"])
        else:
            right += (machine.scalars[0] > 0.5) == bool(label)  # noqa: PLR2004 - the suite's threshold
    return right / SAMPLES


class Machine:
    """Registers and the operations of the language: nothing else can be reached, and every value stays bounded."""

    def __init__(self, dim: int, dice: random.Random) -> None:
        self.dim = dim
        self.dice = dice
        self.scalars = [0.0] * 20
        self.vectors = [[0.0] * dim for _ in range(10)]
        self.matrices = [[[0.0] * dim for _ in range(dim)] for _ in range(5)]

    def show(self, inputs: Vector) -> None:
        self.vectors[0] = list(inputs)

    def run(self, instructions: Sequence[str]) -> None:
        for line in instructions:
            target, _, expression = line.partition(" = ")
            cell = _CELL.fullmatch(target)
            if cell:
                if int(cell[2]) < self.dim:
                    self.vectors[int(cell[1])][int(cell[2])] = float(expression)
                continue
            self._store(target, self._value(expression))

    def _bank(self, register: str) -> list[Any]:
        banks: dict[str, list[Any]] = {"s": self.scalars, "v": self.vectors, "m": self.matrices}
        return banks[register[0]]

    def _load(self, register: str) -> Value:
        return self._bank(register)[int(register[1:])]

    def _store(self, register: str, value: Value) -> None:
        """A result of another kind than its register's is lost, as in the reference executor."""
        depth = {"s": 0, "v": 1, "m": 2}[register[0]]
        if _depth(value) == depth:
            self._bank(register)[int(register[1:])] = _bounded(value)

    def _value(self, expression: str) -> Value:
        call, infix = _CALL.fullmatch(expression), _INFIX.fullmatch(expression)
        if call:
            return self._called(call[1], [word.strip() for word in call[2].split(",")])
        if infix:
            return _combined(infix[2], self._load(infix[1]), self._load(infix[3]))
        return self._load(expression) if expression[0] in "svm" else float(expression)

    def _called(self, name: str, words: list[str]) -> Value:
        if name in {"gaussian", "uniform"}:
            low, high = float(words[0]), float(words[1])
            return self.dice.gauss(low, abs(high)) if name == "gaussian" else self.dice.uniform(low, high)
        values = [self._load(word) for word in words]
        if name in {"dot", "matmul", "outer"}:
            return _product(name, *values)
        if name in {"norm", "mean", "std"}:
            return _summary(name, values[0]) if _depth(values[0]) == 1 else 0.0
        return _each(_FUNCTIONS[name], *values)


def _product(name: str, left: Value, right: Value) -> Value:
    kinds = (_depth(left), _depth(right))
    if name == "dot" and kinds == (1, 1):
        return math.fsum(a * b for a, b in zip(left, right, strict=True))
    if name == "matmul" and kinds == (2, 1):
        return [math.fsum(a * b for a, b in zip(row, right, strict=True)) for row in left]
    if name == "outer" and kinds == (1, 1):
        return [[a * b for b in right] for a in left]
    return None


def _summary(name: str, values: Vector) -> float:
    mean = math.fsum(values) / len(values)
    if name == "mean":
        return mean
    if name == "norm":
        return math.sqrt(math.fsum(value * value for value in values))
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _combined(symbol: str, left: Value, right: Value) -> Value:
    """Scalars spread over what they meet."""
    operation = {"+": _add, "-": _subtract, "*": _multiply, "/": _divide}[symbol]
    return _each(operation, left, right)


def _each(operation: Callable[..., float], *values: Value) -> Value:
    depth = max(_depth(value) for value in values)
    if depth == 0:
        return operation(*values)
    size = next(len(value) for value in values if _depth(value) == depth)
    spread = [value if _depth(value) == depth else [value] * size for value in values]
    return [_each(operation, *parts) for parts in zip(*spread, strict=True)]


def _depth(value: Value) -> int:
    if value is None:
        return -1
    return 1 + _depth(value[0]) if isinstance(value, list) else 0


def _bounded(value: Value) -> Value:
    if isinstance(value, list):
        return [_bounded(part) for part in value]
    return max(-_BIG, min(_BIG, value)) if value == value else 0.0  # noqa: PLR0124 - the test for NaN


def _add(a: float, b: float) -> float:
    return a + b


def _subtract(a: float, b: float) -> float:
    return a - b


def _multiply(a: float, b: float) -> float:
    return a * b


def _divide(a: float, b: float) -> float:
    return a / b if b else 0.0


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "exp": lambda x: math.exp(min(x, 60.0)),
    "log": lambda x: math.log(x) if x > 0 else 0.0,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "heaviside": lambda x: float(x > 0),
    "min": min,
    "max": max,
}
