"""Atheris on the parsers, guided by the coverage of our own code; runs in its own environment.

``python -m services.policy_gateway.fuzz.coverage TARGET SECONDS CORPUS``: exit status 0 when
nothing was found; a find is printed by libFuzzer with its bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tresor_gateway"]):
    from services.policy_gateway.fuzz import targets


def main() -> None:
    """Fuzz one target until the time is over; does not return."""
    name, seconds, corpus = sys.argv[1:4]
    target, seeds = targets.TARGETS[name]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    targets.prepare()
    limits = ["-max_len=4096", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1"]
    artefacts = f"-artifact_prefix={folder.parent}/find-{name}-"
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={seconds}", *limits, artefacts, str(folder)], target
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
