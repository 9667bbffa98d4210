"""The ways to bring a bundle over that are compared; each returns its seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bundle.bench.fixtures import MIB, SITE, Fixture
from tresor.bundle import gates
from tresor.bundle.importer import main
from tresor.bundle.layout import sync_file_system


@dataclass(frozen=True)
class Imported:
    """One import: seconds, peak memory in MiB, peak of the store's disk in bytes."""

    seconds: float
    rss_mib: float
    disk_bytes: int


def cold(paths: tuple[Path, ...]) -> None:
    """Drop files from the page cache; the next read comes from the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def raw_copy(fixture: Fixture, target: Path) -> float:
    """Copy past the page cache with dd, two files at a time, without a look at the bytes."""
    cold(fixture.blobs)
    target.mkdir()
    started = time.monotonic()
    waiting = list(fixture.blobs)
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < 2:
            path = waiting.pop()
            running.append(
                subprocess.Popen(
                    ["dd", f"if={path}", f"of={target / path.name}", "bs=8M", "iflag=direct",
                     "oflag=direct", "conv=fsync", "status=none"]
                )
            )  # fmt: skip
        if running.pop(0).wait() != 0:
            raise OSError("dd failed")
    return _removed(_ended(started, target), target)


def sha256_then_cp(fixture: Fixture, target: Path) -> float:
    """Check with sha256sum, then copy with cp: two looks at the medium."""
    listing = target.with_suffix(".sha256")
    listing.write_text("".join(f"{path.name}  {path}\n" for path in fixture.blobs))
    cold(fixture.blobs)
    started = time.monotonic()
    subprocess.run(["sha256sum", "--quiet", "-c", str(listing)], check=True)
    subprocess.run(["cp", "-r", str(fixture.folder / "blobs"), str(target)], check=True)
    return _removed(_ended(started, target), target)


def plain_cp(fixture: Fixture, target: Path) -> float:
    """Copy with cp and wait for the disk; nothing is checked. The copy stays."""
    cold(fixture.blobs)
    started = time.monotonic()
    subprocess.run(["cp", "-r", str(fixture.folder / "blobs"), str(target)], check=True)
    return _ended(started, target)


def arguments(fixture: Fixture, store: Path) -> list[str]:
    """Return what the importer is called with."""
    return [
        "import", "--quiet", "--json", "--site", SITE,
        "--medium", str(fixture.folder), "--store", str(store),
        "--root-sha256", fixture.fingerprint, "--accept-scope", "lab",
    ]  # fmt: skip


def take_in(fixture: Fixture, store: Path) -> Imported:
    """Import: verify and store, up to where people approve."""
    cold(fixture.blobs)
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.3):
            peak[0] = max(peak[0], _disk(store))

    watcher = threading.Thread(target=watch)
    started = time.monotonic()
    pid = _started(fixture, store)  # before any thread begins
    watcher.start()
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    if code != 0:
        raise OSError(f"the importer ended with {code}")
    return Imported(seconds, usage.ru_maxrss / 1024, max(peak[0], _disk(store)))


def _started(fixture: Fixture, store: Path) -> int:
    """Start the importer in a fork: the start of Python is not what is measured."""
    pid = os.fork()
    if pid == 0:
        _import_and_leave(fixture, store)
    return pid


def _import_and_leave(fixture: Fixture, store: Path) -> NoReturn:
    """Run the importer in this process and end it."""
    code = 1
    # Random bytes carry no evidence, and how long the other gates take depends on what they read.
    gates.GATES = {"contents": gates.GATES["contents"]}
    try:
        with Path(os.devnull).open("w", encoding="ascii") as nowhere, redirect_stdout(nowhere):
            code = main(arguments(fixture, store))
    finally:
        os._exit(code)


def read_again_after_kill(fixture: Fixture, store: Path) -> int:
    """Kill the importer at half of the bytes; return how many bytes it reads twice in all."""
    cold(fixture.blobs)
    first, pid = 0, _started(fixture, store)
    while first < fixture.size // 2 and os.waitpid(pid, os.WNOHANG) == (0, 0):
        first = _read_bytes(pid) or first
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _, status = os.waitpid(_started(fixture, store), 0)
    if status != 0:
        raise OSError("the importer did not go on after the kill")
    lines = (store / "state" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    second = next(item["read"] for item in reversed(events) if item["event"] == "import.copied")
    return max(0, first + int(second) - fixture.size)


def _read_bytes(pid: int) -> int:
    """Return the bytes a process read by system calls (what it read of itself is a few MiB)."""
    try:
        text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.split("rchar:")[1].split()[0])


def _disk(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except OSError:
                continue  # it was just renamed
    return total


def _ended(started: float, target: Path) -> float:
    sync_file_system(target)
    return time.monotonic() - started


def _removed(seconds: float, target: Path) -> float:
    shutil.rmtree(target)
    return seconds


def show(fixture: Fixture, label: str, seconds: float) -> None:
    """Print one measurement as it comes."""
    rate = fixture.size / MIB / seconds
    print(f"{label:<22} {seconds:8.2f} s {rate:8.0f} MiB/s", flush=True)
