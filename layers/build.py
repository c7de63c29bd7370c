"""Build a Lambda layer: the pinned wheels of its requirements for the runtime, zipped the same way every time.

`python -m layers.build numeric` writes `build/layers/numeric-<hash>.zip`. Dependencies are not resolved: a layer must
not carry a second copy of what the API bundle has, since both are unpacked into one folder.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"python/lib/python{PYTHON}/site-packages"
_ROOT = Path(__file__).parent
_FOLDER = _ROOT.parent / "build" / "layers"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_GLIBC = (5, 12, 17, 24, 26) if sys.version_info < (3, 12) else (5, 12, 17, 24, 26, 27, 28, 31, 34)
_LEFT_OUT = {"__pycache__", "bin"}


class LayerRefused(RuntimeError):
    """pip would not install the pinned wheels for the runtime."""


def names() -> list[str]:
    """Every layer that can be built."""
    return sorted(path.parent.name for path in _ROOT.glob("*/requirements.txt") if path.parent.name != "evaluator")


def build(name: str) -> Path:
    """The layer's zip, named by its content; an unchanged layer keeps its name."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER) as scratch:
        site = Path(scratch) / SITE
        _install(_ROOT / name / "requirements.txt", site)
        packed = Path(scratch) / "layer.zip"
        _zip(Path(scratch), site, packed)
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()[:16]
        target = _FOLDER / f"{name}-{digest}.zip"
        shutil.move(packed, target)
    return target


def _install(requirements: Path, site: Path) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC]
    older = [f"--platform={tag}_x86_64" for tag in ("manylinux1", "manylinux2010", "manylinux2014")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--no-compile", "--implementation=cp", f"--python-version={PYTHON}"]
    command += [*platforms, *older, f"--target={site}", f"--requirement={requirements}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        raise LayerRefused(f"{requirements}: {done.stderr.strip()}")


def _zip(root: Path, site: Path, target: Path) -> None:
    files = [path for path in site.rglob("*") if path.is_file() and not _LEFT_OUT & set(path.relative_to(site).parts)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(files):
            entry = zipfile.ZipInfo(str(path.relative_to(root)), _LONG_AGO)
            entry.external_attr = 0o755 << 16 if path.suffix == ".so" else 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    for wanted in sys.argv[1:] or names():
        print(build(wanted))
