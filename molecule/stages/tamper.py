"""Bundles that were tampered with must be refused by the bastion, and nothing may become active."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages import bundle, site_import
from stages.shell import BUILD, StageError, lab, on_host, run

_WORK = BUILD / "tampered"


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
    from tresor.bundle import signing  # noqa: PLC0415 - the connected side's library

    shutil.rmtree(target / "tuf")
    keys = _WORK / "foreign-keys"
    signing.create_lab_keys(keys)
    signing.sign_bundle(target, keys)


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
        with _medium(good, spoil) as root:
            command = site_import.importer(
                "import", "--medium", f"{site_import.MOUNT}/bundle", "--store", site_import.STORE,
                "--site", site_import.SITE, "--accept-scope", "lab",
                "--root-sha256", site_import.root_fingerprint(good),
            )  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        message = (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode != 3:
            raise StageError(
                f"tampered bundle ({name}, {root}) gave exit code {done.returncode}, expected 3\n"
                f"{done.stdout[-1500:]}{done.stderr[-1500:]}"
            )
        print(f"refused as it must be: {name}: {message}", flush=True)
    active = subprocess.run(
        on_host("bastion", "test", "-e", f"{site_import.STORE}/current"), check=False
    )
    if active.returncode == 0:
        raise StageError("a release became active although every bundle was tampered with")


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
