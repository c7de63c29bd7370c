"""The register programs that miners exchange: read line by line in linear time, never executed.

Split from `domain` because its subject is a language, not the pool: it knows text and limits alone.
Bad lines are dropped, as the reference reader of that language does; a program is malformed only when too little of
it is left, or too much was sent. The canonical form exists for comparing programs; miners get the original text.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from dataclasses import dataclass, field

from chalicelib.kernel.values import frozen

PHASES = ("setup", "predict", "learn")
MAX_LINE = 300
MAX_PHASE_INSTRUCTIONS = 64
MAX_INSTRUCTIONS = 192
MAX_VECTOR = 4096
EXTRA_VECTOR_CELLS = 10

_REGISTERS = {"s": 20, "v": 10, "m": 5}
_UNARY = frozenset({"abs", "exp", "log", "sin", "cos", "tan", "heaviside", "norm", "mean", "std"})
_BINARY = frozenset({"dot", "matmul", "outer", "min", "max"})
_NOISE = frozenset({"gaussian", "uniform"})
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_REGISTER = re.compile(r"([svm])([0-9]{1,2})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_CELL = re.compile(r"v([0-9]{1,2})\[([0-9]{1,4})\]")
_INFIX = re.compile(r"([svm][0-9]{1,2}) ?([-+*/]) ?([svm][0-9]{1,2})")
_CALL = re.compile(r"([a-z_]{1,16}) ?\(([^()]*)\)")
_VECTOR_DIM = re.compile(r"vector_dim=([0-9]{1,4})")


class MalformedGenome(ValueError):
    """Too little of the text is a program, or too much text was sent."""


@frozen
class Limits:
    """What an operator may tighten."""

    max_bytes: int = 16384
    max_lines: int = 600
    max_bad_ratio: float = 0.5


@dataclass
class Genome:
    """The readable instructions of each phase in canonical spelling."""

    phases: dict[str, list[str]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    dropped: int = 0

    @property
    def size(self) -> int:
        return sum(len(instructions) for instructions in self.phases.values())

    def fingerprint(self, task_type: str, input_dim: int) -> str:
        """Equal for two texts that say the same program of one problem."""
        lines = [line for phase in PHASES for line in (f"{phase}:", *self.phases[phase])]
        head = f"bitsota-dsl-v1\n{task_type}\n{input_dim}\n"
        return hashlib.sha256((head + "\n".join(lines)).encode()).hexdigest()


def parse(text: str, input_dim: int, limits: Limits | None = None) -> Genome:
    """Read a program, or say in a few words why it is none."""
    limits = limits or Limits()
    lines = _lines(text, limits)
    genome, phase = Genome(), "predict"
    cells = input_dim + EXTRA_VECTOR_CELLS
    for raw in lines:
        line = raw.strip()
        if line.startswith("#") or line.endswith(":"):
            phase = _phase_of(line, phase)
            cells = _cells_of(line, cells)
            continue
        line = " ".join(line.partition("#")[0].lower().split())
        if not line or line == "noop()":
            continue
        instruction = _instruction(line, cells)
        if instruction is None:
            genome.dropped += 1
        else:
            genome.phases[phase].append(instruction)
    _check(genome, limits)
    return genome


def _lines(text: str, limits: Limits) -> list[str]:
    if len(text.encode()) > limits.max_bytes:
        raise MalformedGenome(f"more than {limits.max_bytes} bytes")
    if any(_is_control(letter) for letter in text):
        raise MalformedGenome("control characters")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > limits.max_lines:
        raise MalformedGenome(f"more than {limits.max_lines} lines")
    if any(len(line) > MAX_LINE for line in lines):
        raise MalformedGenome(f"a line is longer than {MAX_LINE} characters")
    return lines


def _is_control(letter: str) -> bool:
    return (letter < " " and letter not in "\n\r\t") or "\x7f" <= letter <= "\x9f"


def _check(genome: Genome, limits: Limits) -> None:
    if not genome.size:
        raise MalformedGenome("no instruction")
    if not genome.phases["predict"]:
        raise MalformedGenome("no instruction in predict")
    if genome.size > MAX_INSTRUCTIONS or any(len(part) > MAX_PHASE_INSTRUCTIONS for part in genome.phases.values()):
        raise MalformedGenome("too many instructions")
    if genome.dropped > limits.max_bad_ratio * (genome.size + genome.dropped):
        raise MalformedGenome("too many unreadable lines")


def _phase_of(line: str, current: str) -> str:
    lowered = line.lower()
    return next((phase for phase in PHASES if phase in lowered), current)


def _cells_of(line: str, current: int) -> int:
    declared = _VECTOR_DIM.search(line)
    return max(current, min(int(declared[1]), MAX_VECTOR)) if declared else current


def _instruction(line: str, cells: int) -> str | None:
    """One line in canonical spelling; None where the reader would drop it."""
    if "->" in line:
        operation, _, target = line.partition("->")
        return _arrow(operation.strip(), target.strip())
    target, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        return None
    cell = _CELL.fullmatch(target)
    if cell:
        number = _number(value)
        inside = int(cell[1]) < _REGISTERS["v"] and int(cell[2]) < cells
        return f"v{int(cell[1])}[{int(cell[2])}] = {number}" if inside and number else None
    register = _register(target)
    expression = _expression(value)
    return f"{register} = {expression}" if register and expression else None


def _expression(value: str) -> str | None:
    simple = _number(value) or _register(value)
    if simple:
        return simple
    infix = _INFIX.fullmatch(value)
    if infix:
        left, right = _register(infix[1]), _register(infix[3])
        return f"{left} {infix[2]} {right}" if left and right else None
    call = _CALL.fullmatch(value)
    return _call(call[1], [word.strip() for word in call[2].split(",")]) if call else None


def _call(name: str, words: list[str]) -> str | None:
    if name in _NOISE:
        arguments, wanted = [_number(word) for word in words], 2
    else:
        arguments = [_register(word) for word in words]
        wanted = 1 if name in _UNARY else 2 if name in _BINARY else 0
    whole = [argument for argument in arguments if argument]
    return f"{name}({', '.join(whole)})" if wanted and len(whole) == len(words) == wanted else None


def _arrow(operation: str, target: str) -> str | None:
    """`OP a b -> d` says the same as `d = op(a, b)`."""
    name, *words = operation.replace(",", " ").split() or [""]
    register = _register(target)
    if name in _SYMBOLS and len(words) == 2:  # noqa: PLR2004 - a binary operation
        expression = _expression(f"{words[0]} {_SYMBOLS[name]} {words[1]}")
    elif name in {"const", "copy"} and len(words) == 1:
        expression = _number(words[0]) if name == "const" else _register(words[0])
    else:
        expression = _call(name, words)
    return f"{register} = {expression}" if register and expression else None


def _register(word: str) -> str | None:
    found = _REGISTER.fullmatch(word)
    if not found or int(found[2]) >= _REGISTERS[found[1]]:
        return None
    return f"{found[1]}{int(found[2])}"


def _number(word: str) -> str | None:
    """A finite literal as the 32-bit value that programs compute with."""
    if not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return None
    return repr(single) if math.isfinite(single) else None
