"""Say whether a set of GPU packages is qualified, and write a proof into it.

``python -m bundle.builder.gpu_set SET`` checks it. ``--build`` builds its modules in an empty
system and writes the proof; ``--built WHERE`` or ``--tested WHERE`` states that exactly these
contents were built or tested together there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from bundle.builder import gpu_build
from bundle.builder.context import default_context
from bundle.builder.errors import BuilderError, PolicyError, SpecError
from tresor.gpu.qualified import PROOFS, SetError, digest_of, read_set
from tresor.inventory.schema_check import load_schema, violations


def load(path: Path, schema_dir: Path) -> dict[str, Any]:
    """Return the contents of a set that fits its schema.

    Raises:
        SpecError: it cannot be read or does not fit.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    found = violations(data, load_schema(schema_dir, "gpu-set"))
    if found:
        raise SpecError(f"{path} does not fit gpu-set.schema.json: {'; '.join(found)}")
    contents: dict[str, Any] = data
    return contents


def problems(data: Mapping[str, Any], today: date) -> list[str]:
    """Return why the set is refused on a host of its own system; empty if it is qualified."""
    try:
        read_set(data, system=data["system"], today=today)
    except SetError as error:
        return error.problems
    return []


def prove(data: Mapping[str, Any], kind: str, where: str, today: date) -> dict[str, Any]:
    """Return the set with a proof of its present contents.

    Raises:
        PolicyError: the set contradicts itself, so that nothing could have been proven with it.
    """
    proof = {
        "content_sha256": digest_of(data),
        "kernel": data["kernel"],
        "driver": data["driver"],
        "where": where,
        "date": today.isoformat(),
    }
    as_if = {**data, "proofs": dict.fromkeys(PROOFS, proof)}
    wrong = problems(as_if, today)
    if wrong:
        raise PolicyError(f"the set {data['name']} cannot be {kind}: {'; '.join(wrong)}")
    kept = {
        name: old
        for name, old in data.get("proofs", {}).items()
        if old["content_sha256"] == proof["content_sha256"]
    }
    return {**data, "proofs": {**kept, kind: proof}}


def main(argv: Sequence[str] | None = None) -> int:
    """Check or prove one set; return 0 if it is qualified, 1 if it is not, 2 for an error."""
    parser = argparse.ArgumentParser(prog="python -m bundle.builder.gpu_set", description=__doc__)
    parser.add_argument("set", type=Path, help="file of the set")
    for kind in PROOFS:
        parser.add_argument(
            f"--{kind}", metavar="WHERE", help=f"state that it was {kind}, and where"
        )
    parser.add_argument("--build", action="store_true", help="build its modules here (needs root)")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="LINE",
        help="a line of sources.list beside the machine's mirrors, for a vendor's packages",
    )
    args = parser.parse_args(argv)
    today = datetime.now(UTC).date()
    try:
        data = load(args.set, default_context().schema_dir)
        if args.build:
            args.built = _built(data, args.source)
        for kind in PROOFS:
            where = getattr(args, kind)
            if where:
                data = prove(data, kind, where, today)
                args.set.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    except BuilderError as error:
        sys.stderr.write(f"gpu_set: error: {error}\n")
        return 2
    wrong = problems(data, today)
    sys.stdout.write(f"{data['name']}: {digest_of(data)}\n")
    for line in wrong:
        sys.stdout.write(f"- {line}\n")
    sys.stdout.write("refused\n" if wrong else "qualified\n")
    return 1 if wrong else 0


def _built(data: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Build the set's modules; return the words of the proof."""
    want = gpu_build.wanted(data)
    made = gpu_build.build(
        want, [*gpu_build.machine_lines(want.system), *lines], gpu_build.machine_options()
    )
    sys.stdout.write(
        f"{len(made.modules)} modules for {want.kernel} in {made.seconds:.0f} s: "
        f"{', '.join(made.modules)}\n"
    )
    return f"an empty {want.system}, {len(made.modules)} modules"


if __name__ == "__main__":
    sys.exit(main())
