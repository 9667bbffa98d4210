"""``python -m services.policy_gateway.fuzz``: everything hostile, for minutes; 1 when it found
something.

Environments of their own, because these programs want other versions than the gateway: they are
made below ``build/`` at the first run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from services.policy_gateway.fuzz import load, schema
from services.policy_gateway.fuzz.targets import TARGETS

ROOT: Final = Path(__file__).resolve().parents[3]
SERVICE: Final = ROOT / "services" / "policy_gateway"
# The newest one for Python 3.11.
ATHERIS: Final = "atheris==3.0.0"
_TESTS: Final = ("bytes", "engines", "files", "requests")


def main() -> int:
    """Run all parts, print what each found."""
    parser = argparse.ArgumentParser(prog="python -m services.policy_gateway.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for schemathesis")
    parser.add_argument("--target-seconds", type=int, default=20, help="for each parser")
    parser.add_argument("--examples", type=int, default=1000, help="of each property")
    parser.add_argument("--connections", type=int, default=10_000, help="open at a time")
    options = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-gateway-") as scratch:
        folders = [Path(scratch, name) for name in ("schema", "load", "corpus")]
        for folder in folders:
            folder.mkdir()
        problems += asyncio.run(_load(folders[1], options.connections))
        environment = ROOT / "build" / "fuzz-schemathesis"
        problems += asyncio.run(schema.run(folders[0], environment, options.seconds))
        problems += _coverage(folders[2], options.target_seconds)
    problems += _properties(options.examples)
    for problem in problems:
        print(f"FOUND {problem}", file=sys.stderr)
    print(f"fuzz-gateway: {len(problems)} found")
    return 1 if problems else 0


async def _load(folder: Path, connections: int) -> list[str]:
    # Each connection has an end here, one in the gateway's process, which raises its own limit.
    count = min(connections, load.allow_files(connections + 1024) - 1024)
    if count < connections:
        print(f"only {count} connections: the limit of open files allows no more")
    cases: list[load.Case] = [
        partial(load.many_connections, count=count),
        partial(load.slow_loris, count=1000),
        partial(load.leaving_clients, count=200),
        load.bad_engines,
    ]
    return await load.run(folder, cases, max_connections=count + 1024)


def _coverage(corpus: Path, seconds: int) -> list[str]:
    """Atheris, one process for each parser."""
    environment = ROOT / "build" / "fuzz-atheris"
    python = environment / "bin" / "python"
    if not (environment / "bin" / "atheris.ready").exists():
        venv = ["uv", "venv", "-q", "--clear", "--python", "3.11", str(environment)]
        subprocess.run(venv, check=True)
        install = ["uv", "pip", "install", "-q", "--python", str(python), ATHERIS]
        subprocess.run([*install, "-r", str(SERVICE / "pyproject.toml")], check=True)
        (environment / "bin" / "atheris.ready").touch()
    paths = f"{ROOT}:{SERVICE / 'src'}"
    problems = []
    for name in TARGETS:
        run = subprocess.run(
            [python, "-m", f"{__package__}.coverage", name, str(seconds), str(corpus / name)],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
            cwd=corpus,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        executed = [line for line in run.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"atheris {name}: {' '.join(executed).split(':')[-1].strip() or 'ended'} inputs")
        if run.returncode != 0:
            problems.append(f"{name}: {run.stderr[-3000:]}")
    return problems


def _properties(examples: int) -> list[str]:
    """The unit tests' properties with many examples."""
    tests = [str(SERVICE / "tests" / f"test_hostile_{name}.py") for name in _TESTS]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", *tests],
        env={**os.environ, "TRESOR_FUZZ_EXAMPLES": str(examples)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"properties, {examples} examples each: exit status {run.returncode}")
    return [] if run.returncode == 0 else [run.stdout[-5000:]]


if __name__ == "__main__":
    sys.exit(main())
