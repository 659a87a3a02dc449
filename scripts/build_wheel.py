"""Build the wheel; with the versions of constraints.txt, the same sources give the same bytes.

    python scripts/build_wheel.py [--out DIR]

The sources are copied first, with file modes that do not depend on the checkout, so that the build leaves nothing in
the checkout and uses nothing of an earlier build. Times are those of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from build_registry import EPOCH

TOP = Path(__file__).resolve().parent.parent

#: Sources of the wheel.
FILES = ("pyproject.toml", "README.md", "LICENSE", "share/man/man1/modelspace.1")
PACKAGE = "modelspace"

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def copy_sources(folder: Path) -> None:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TOP / name, folder / name)
    shutil.copytree(
        TOP / PACKAGE,
        folder / PACKAGE,
        ignore=shutil.ignore_patterns("__pycache__"),
        copy_function=shutil.copyfile,
    )
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def build(out: Path) -> Path:
    """Build the wheel in the folder `out`; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", str(EPOCH))}
    with tempfile.TemporaryDirectory() as folder:
        copy_sources(Path(folder))
        command = [sys.executable, "-c", BUILD, str(out.resolve())]
        mask = 0o022 if os.name == "posix" else -1
        process = subprocess.run(
            command, cwd=folder, env=environment, umask=mask, capture_output=True, text=True, check=False
        )
    if process.returncode:
        sys.exit(process.stdout + process.stderr)
    return out / process.stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TOP / "dist")
    wheel = build(parser.parse_args().out)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
