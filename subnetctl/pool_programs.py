"""Programs to seed a pool with: a dozen and more ways to learn a score `s0` from an input `v0` and a label `s1`."""

from __future__ import annotations

from pathlib import Path

from . import terminal

_SEPARATOR = "---"
_BUILT_IN = """\
# setup
s2 = 0.01
# predict
s0 = dot(v0, v1)
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
---
# setup
s2 = 0.05
# predict
s0 = dot(v0, v1)
s0 = s0 + s5
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
s4 = s3 * s2
s5 = s5 + s4
---
# setup
s2 = 0.02
s6 = 0.5
# predict
s0 = dot(v0, v1)
s0 = s0 + s6
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
---
# setup
s2 = 0.1
# predict
s7 = norm(v0)
v3 = v0 / s7
s0 = dot(v3, v1)
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v3 * s4
v1 = v1 + v2
---
# setup
s2 = 0.01
s6 = 0.5
# predict
s8 = dot(v0, v1)
s8 = s8 + s5
s0 = heaviside(s8)
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
s5 = s5 + s4
---
# setup
s2 = 0.05
s6 = 0.5
# predict
v3 = abs(v0)
s0 = dot(v3, v1)
s0 = s0 + s6
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v3 * s4
v1 = v1 + v2
---
# setup
s2 = 0.03
# predict
v3 = sin(v0)
s0 = dot(v3, v1)
s0 = s0 + s5
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v3 * s4
v1 = v1 + v2
s5 = s5 + s4
---
# setup
s2 = 0.02
# predict
v3 = v0 * v0
s7 = dot(v3, v4)
s8 = dot(v0, v1)
s0 = s7 + s8
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
v5 = v3 * s4
v4 = v4 + v5
---
# setup
s2 = 0.01
s9 = 0.99
# predict
s0 = dot(v0, v1)
s0 = s0 + s5
# learn
v1 = v1 * s9
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
s5 = s5 + s4
---
# setup
s2 = 0.01
s9 = 0.9
# predict
s0 = dot(v0, v1)
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v0 * s4
v6 = v6 * s9
v6 = v6 + v2
v1 = v1 + v6
---
# setup
s2 = 0.05
s6 = 0.5
# predict
s7 = mean(v0)
v3 = v0 - s7
s0 = dot(v3, v1)
s0 = s0 + s6
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v3 * s4
v1 = v1 + v2
---
# setup
s2 = 0.05
s9 = 0.0001
# predict
s7 = std(v0)
s7 = s7 + s9
v3 = v0 / s7
s0 = dot(v3, v1)
s0 = s0 + s5
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v3 * s4
v1 = v1 + v2
s5 = s5 + s4
---
# setup
s2 = 0.02
# predict
v3 = matmul(m0, v0)
v4 = sin(v3)
s0 = dot(v4, v1)
s0 = s0 + s5
# learn
s3 = s1 - s0
s4 = s3 * s2
v2 = v4 * s4
v1 = v1 + v2
s5 = s5 + s4
v5 = v1 * s4
m1 = outer(v5, v0)
m0 = m0 + m1
---
# setup
s2 = 0.01
s6 = 0.5
# predict
s7 = dot(v0, v1)
s8 = sin(s7)
s0 = s8 + s6
# learn
s3 = s1 - s0
s9 = cos(s7)
s3 = s3 * s9
s4 = s3 * s2
v2 = v0 * s4
v1 = v1 + v2
"""


def read(file: Path | None) -> list[str]:
    """The programs of a file, parted by lines of three dashes; without one, those above."""
    try:
        found = parted(file.read_text("utf-8") if file else _BUILT_IN)
    except UnicodeDecodeError:
        terminal.refuse(f"{file} is no UTF-8 text", code="bad_file")
    if not found:
        terminal.refuse(f"{file} holds no program", code="no_programs")
    return found


def parted(text: str) -> list[str]:
    programs: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() == _SEPARATOR:
            programs.append([])
        else:
            programs[-1].append(line)
    return ["\n".join(lines).strip("\n") + "\n" for lines in programs if any(line.strip() for line in lines)]
