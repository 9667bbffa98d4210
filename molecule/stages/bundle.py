"""Stage bundle: spec + lock -> signed bundle, on the connected side (this machine)."""

from __future__ import annotations

from pathlib import Path

from stages.shell import BUILD, python, run

MEDIUM = BUILD / "medium"
BUNDLE = MEDIUM / "bundle"
KEYS = BUILD / "keys"


def build(serial: int | None = None) -> Path:
    """Build and sign the lab's bundle; return its directory.

    ``serial`` replaces the lock's: a site that has it already takes only a higher one.
    """
    forced = [] if serial is None else ["--serial", str(serial)]
    run(
        python(
            "-m",
            "bundle.builder",
            "build",
            "--out",
            str(MEDIUM),
            "--keys",
            str(KEYS),
            "--lab-keys",
            "--relock-missing",
            *forced,
        ),
        what="bundle build",
    )
    return BUNDLE
