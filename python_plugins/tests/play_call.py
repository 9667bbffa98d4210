"""Run a play on this machine with the tests' own ansible-core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def run_play(play: dict[str, Any], path: Path) -> subprocess.CompletedProcess[str]:
    """Write ``play`` to ``path`` and run it with the repository's configuration."""
    path.write_text(yaml.safe_dump([play]))
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", "localhost,", "-c", "local"),
            path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
