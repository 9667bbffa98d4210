"""Sample CPU seconds and memory of a user's processes until the file given goes away.

usage.py USER FILE: FILE is rewritten every second with a JSON object.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from pathlib import Path


def sample(uid: int) -> dict[str, dict[str, float]]:
    """Return CPU seconds and resident bytes of each process of a user, by number and name."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != uid:
                continue
            text = (entry / "stat").read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        ticks = int(fields[11]) + int(fields[12])
        found[f"{entry.name}/{name}"] = {
            "cpu": ticks / os.sysconf("SC_CLK_TCK"),
            "rss": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        }
    return found


def main() -> None:
    """Sample; processes that ended keep their last values."""
    uid, target = pwd.getpwnam(sys.argv[1]).pw_uid, Path(sys.argv[2])
    cpu: dict[str, float] = {}
    first: dict[str, float] = {}
    rss: dict[str, float] = {}
    target.write_text("{}")
    while target.exists():
        for key, values in sample(uid).items():
            name = key.partition("/")[2]
            # Those that run already have used CPU before; those that begin later have not.
            first.setdefault(key, values["cpu"] if not cpu or key in cpu else 0.0)
            cpu[key] = values["cpu"]
            rss[name] = max(rss.get(name, 0), values["rss"])
        totals: dict[str, float] = {}
        for key, seconds in cpu.items():
            name = key.partition("/")[2]
            totals[name] = round(totals.get(name, 0) + seconds - first[key], 2)
        target.write_text(json.dumps({"cpu_seconds": totals, "rss_bytes": rss}))
        time.sleep(1)


if __name__ == "__main__":
    main()
