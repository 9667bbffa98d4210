"""Bundles that were tampered with must be refused by the bastion, and nothing may become active."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages import bundle, site_import
from stages.shell import BUILD, StageError, lab, on_host, run
from tresor.bundle.canonical import dump_canonical
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


def flipped_signature(pattern: str) -> Callable[[Path], None]:
    """Return what flips one byte of a signature in ``tuf/<pattern>``; content and root stay."""

    def spoil(target: Path) -> None:
        (victim,) = (target / "tuf").glob(pattern)
        document = json.loads(victim.read_bytes())
        signature = bytearray.fromhex(document["signatures"][0]["sig"])
        signature[len(signature) // 2] ^= 0xFF
        document["signatures"][0]["sig"] = signature.hex()
        victim.unlink()  # see flipped_bit
        victim.write_bytes(dump_canonical(document))

    return spoil


@dataclass(frozen=True)
class Case:
    """One way to spoil a bundle, and the importer's rule that must refuse it."""

    name: str
    rule: str
    spoil: Callable[[Path], None]


# The first one pins the trusted root: its metadata is good. From then on foreign keys are a changed
# root. Snapshot and targets are also hashed by the metadata above them, which is looked at first.
CASES = (
    Case("flipped bit", "content.digest", flipped_bit),
    Case("missing file", "content.missing", missing_file),
    Case("extra file", "medium.extra", extra_file),
    Case("wrong key", "signature.root-changed", wrong_key),
    Case(
        "flipped byte in the signature of timestamp",
        "signature.invalid",
        flipped_signature("timestamp.json"),
    ),
    Case(
        "flipped byte in the signature of snapshot",
        "signature.mixed",
        flipped_signature("*.snapshot.json"),
    ),
    Case(
        "flipped byte in the signature of targets",
        "signature.mixed",
        flipped_signature("*.targets.json"),
    ),
)


def main() -> None:
    """Try every case on the real bastion.

    Raises:
        StageError: a tampered bundle was not refused, or something became active.
    """
    good = bundle.BUNDLE
    for case in CASES:
        with _medium(good, case.spoil):
            done = subprocess.run(_import(good), capture_output=True, text=True, check=False)
        expect((_REJECTED, case.rule), (done.returncode, done.stdout, done.stderr), case.name)
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
            _import(good), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if not subprocess.run(on_host("bastion", "sh", "-c", copying), check=False).returncode:
                break
        # An open directory keeps a bind mount alive after umount, so the files go instead.
        (root / "gone").mkdir()
        for entry in sorted((root / "bundle").iterdir(), reverse=True):  # the blobs last
            entry.rename(root / "gone" / entry.name)
        said, complained = process.communicate(timeout=120)
    expect(
        (_ENVIRONMENT, "medium.gone"),
        (process.returncode, said, complained),
        "medium pulled out in the middle",
    )


def _import(good: Path) -> list[str]:
    return site_import.importer(
        "import", "--json", "--medium", f"{site_import.MOUNT}/bundle", "--store", site_import.STORE,
        "--site", site_import.SITE, "--accept-scope", "lab",
        "--root-sha256", site_import.root_fingerprint(good),
    )  # fmt: skip


def expect(wanted: tuple[int, str], seen: tuple[int, str, str], name: str) -> None:
    """Compare exit code and rule with what the importer gave: exit code, JSON, messages.

    Raises:
        StageError: the importer did not refuse, or for another reason.
    """
    code, said, complained = seen
    try:
        answer = json.loads(said)
        rule, message = answer["rule"], answer["message"]
    except (ValueError, KeyError, TypeError):
        rule, message = "none", ""
    if (code, rule) != wanted:
        raise StageError(
            f"{name}: exit code {code} by rule {rule}, expected exit code {wanted[0]} by rule "
            f"{wanted[1]}\n{said[-1000:]}{complained[-3000:]}"
        )
    print(f"refused as it must be: {name}: {rule}: {message}", flush=True)


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
