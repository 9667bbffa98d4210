"""``python -m bundle.bench``: prints figures; the last line is one JSON object.

Every round measures all ways, one after the other, so that a busy machine slows all of them; the
ratios are taken within a round, and their median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bundle.bench import fixtures, ways
from tresor.bundle import copier, sshsig
from tresor.bundle.medium import Medium
from tresor.bundle.partial import CHECKPOINT_BYTES
from tresor.bundle.trust import TrustedState as State
from tresor.bundle.trust import first_root, verify

MIB = fixtures.MIB


def main() -> None:
    """Measure and print."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        place = Path(name)
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {place}", flush=True)
        figures = {
            **_big(place, options),
            **_small(place, options),
            **_after_kill(place, options),
            **_metadata(place, options),
        }
    print(json.dumps(figures, sort_keys=True))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bundle.bench", description=main.__doc__)
    default = Path(os.environ.get("TRESOR_CACHE", "/var/cache/tresor")) / "bench"
    parser.add_argument("--folder", type=Path, default=default, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big-mib", type=int, default=1536, help="of each of two large contents")
    parser.add_argument("--small", type=int, default=2048, help="how many of 256 KiB")
    return parser.parse_args()


def _big(place: Path, options: argparse.Namespace) -> dict[str, float]:
    fixture = fixtures.make(place, "big", 2, options.big_mib * MIB)
    raw_ratios, two_ratios, memory, disk = [], [], [], []
    for number in range(options.rounds):
        raw = ways.raw_copy(fixture, place / "raw")
        ways.show(fixture, "raw O_DIRECT copy", raw)
        store = place / f"store-{number}"
        taken = ways.take_in(fixture, store)
        shutil.rmtree(store)
        ways.show(fixture, "import", taken.seconds)
        two = ways.sha256_then_cp(fixture, place / "two")
        ways.show(fixture, "sha256sum, then cp", two)
        raw_ratios.append(raw / taken.seconds)
        two_ratios.append(two / taken.seconds)
        memory.append(taken.rss_mib)
        disk.append(taken.disk_bytes / fixture.size)
    shutil.rmtree(place / "big")
    return {
        "import_x_raw_copy": round(statistics.median(raw_ratios), 3),
        "import_x_sha256_then_cp": round(statistics.median(two_ratios), 2),
        "extra_disk_ratio": round(max(disk), 4),
        "rss_mib": round(max(memory), 1),
    }


def _small(place: Path, options: argparse.Namespace) -> dict[str, float]:
    fixture = fixtures.make(place, "small", options.small, 256 * 1024)
    ratios = []
    for number in range(options.rounds):
        plain = ways.plain_cp(fixture, place / f"plain-{number}")
        ways.show(fixture, "small: cp -r, sync", plain)
        taken = ways.take_in(fixture, place / f"store-{number}")
        ways.show(fixture, "small: import", taken.seconds)
        ratios.append(plain / taken.seconds)
    # Removed only now: ext4 passes over the inodes of the last seconds' removals one by one when
    # it makes a file, and with thousands of them that would be what is measured.
    for number in range(options.rounds):
        shutil.rmtree(place / f"plain-{number}")
        shutil.rmtree(place / f"store-{number}")
    shutil.rmtree(place / "small")
    return {"small_files_x_cp": round(statistics.median(ratios), 2)}


def _after_kill(place: Path, options: argparse.Namespace) -> dict[str, float]:
    fixture = fixtures.make(place, "kill", 2, options.big_mib * MIB)
    again = ways.read_again_after_kill(fixture, place / "store")
    shutil.rmtree(place / "kill")
    shutil.rmtree(place / "store")
    shard = min(CHECKPOINT_BYTES, options.big_mib * MIB)
    print(f"read again after a kill: {again / MIB:.0f} MiB", flush=True)
    return {"reread_after_kill_shards": round(again / shard / copier.WORKERS, 3)}


def _metadata(place: Path, options: argparse.Namespace) -> dict[str, float]:
    fixture = fixtures.make(place, "production", 1, MIB)
    fingerprint = fixtures.make_production_keys(place, fixture.folder)
    medium = Medium(fixture.folder)
    seconds = []
    for _ in range(options.rounds):
        sshsig.forget()
        started = time.monotonic()
        root = first_root(medium.metadata("1.root.json"), fingerprint)
        verify(medium.metadata, State(root), datetime.now(UTC), allow_single_key=False)
        seconds.append(time.monotonic() - started)
    return {"metadata_seconds": round(statistics.median(seconds), 3)}


if __name__ == "__main__":
    main()
