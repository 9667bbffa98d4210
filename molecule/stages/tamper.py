"""Bundles that were tampered with must be refused by the bastion, and nothing may become active."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages import bundle, site_import
from stages.shell import BUILD, StageError, lab, on_host, run
from tresor.bundle.signing import create_lab_keys, sign_bundle

_WORK = BUILD / "tampered"
_REJECTED = 3  # the importer's exit codes
_ENVIRONMENT = 4


def flipped_bit(target: Path) -> None:
    """Flip one bit in the middle of the biggest blob."""
    victim = _blobs(target)[-1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink()  # the copy is hardlinked to the good bundle
    victim.write_bytes(content)


def missing_file(target: Path) -> None:
    """Remove a blob."""
    _blobs(target)[0].unlink()


def extra_file(target: Path) -> None:
    """Add a file nobody signed."""
    (target / "blobs" / "autorun.sh").write_text("echo unsigned\n", encoding="utf-8")


def wrong_key(target: Path) -> None:
    """Sign the same content with keys the site does not know."""
    shutil.rmtree(target / "tuf")
    keys = _WORK / "foreign-keys"
    create_lab_keys(keys)
    sign_bundle(target, keys)


CASES: dict[str, Callable[[Path], None]] = {
    "flipped bit": flipped_bit,
    "missing file": missing_file,
    "extra file": extra_file,
    "wrong key": wrong_key,
}


def main() -> None:
    """Try every case on the real bastion.

    Raises:
        StageError: a tampered bundle was not refused, or something became active.
    """
    good = bundle.BUNDLE
    for name, spoil in CASES.items():
        with _medium(good, spoil):
            done = subprocess.run(_import(good), capture_output=True, text=True, check=False)
        _expect(_REJECTED, done.returncode, name, done.stdout + done.stderr)
    _pull_out(good)
    active = subprocess.run(
        on_host("bastion", "test", "-e", f"{site_import.STORE}/current"), check=False
    )
    if active.returncode == 0:
        raise StageError("a release became active although no import was whole")


def _pull_out(good: Path) -> None:
    """Take the medium away while it is copied; the next import goes on from there."""
    copying = f"tail -n 1 {site_import.STORE}/state/journal.jsonl | grep -q COPYING"
    with _medium(good, lambda _: None) as root:
        process = subprocess.Popen(
            _import(good), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if not subprocess.run(on_host("bastion", "sh", "-c", copying), check=False).returncode:
                break
        # An open directory keeps a bind mount alive after umount, so the files go instead.
        (root / "gone").mkdir()
        for entry in sorted((root / "bundle").iterdir(), reverse=True):  # the blobs last
            entry.rename(root / "gone" / entry.name)
        said, _ = process.communicate(timeout=120)
    _expect(_ENVIRONMENT, process.returncode, "medium pulled out in the middle", said)


def _import(good: Path) -> list[str]:
    return site_import.importer(
        "import", "--medium", f"{site_import.MOUNT}/bundle", "--store", site_import.STORE,
        "--site", site_import.SITE, "--accept-scope", "lab",
        "--root-sha256", site_import.root_fingerprint(good),
    )  # fmt: skip


def _expect(wanted: int, seen: int, name: str, said: str) -> None:
    if seen != wanted:
        raise StageError(f"{name}: exit code {seen}, expected {wanted}\n{said[-3000:]}")
    print(f"refused as it must be: {name}: {said.strip().splitlines()[-1]}", flush=True)


@contextmanager
def _medium(good: Path, spoil: Callable[[Path], None]) -> Iterator[Path]:
    root = _WORK / "medium"
    shutil.rmtree(_WORK, ignore_errors=True)
    target = root / "bundle"
    shutil.copytree(good, target, copy_function=os.link)
    spoil(target)
    run(lab("unmount-medium", "bastion"), what="unmount the medium")
    run(lab("mount-medium", "bastion", str(root)), what="mount a tampered medium")
    try:
        yield root
    finally:
        run(lab("unmount-medium", "bastion"), what="unmount the tampered medium")
        shutil.rmtree(_WORK, ignore_errors=True)


def _blobs(target: Path) -> list[Path]:
    files = [path for path in (target / "blobs").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (path.stat().st_size, path.name))
