#!/usr/bin/python3
"""The first process of the emulated machine: try the importer on a file system with fs-verity.

Everything is below ``/tresor``. Standard library and ``importer.pyz`` only. What is found is
printed as one line of JSON; ``slow_fs_verity.py`` judges it.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MARK = "TRESOR-FOUND "
HERE = Path("/tresor")
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIBMAP = 1
_BLOCK = 4096
_REBOOT_OFF = 0x4321FEDC


def mount(source: str, target: str, kind: str) -> None:
    """Mount a file system."""
    Path(target).mkdir(parents=True, exist_ok=True)
    if _LIBC.mount(source.encode(), target.encode(), kind.encode(), 0, None):
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def call(*words: object) -> tuple[int, str, str]:
    """Run a program; return status, output, errors."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin", "HOME": "/tmp"},
    )
    return done.returncode, done.stdout, done.stderr


def importer(*words: object) -> dict[str, Any]:
    """Run the importer; return its JSON answer and its status."""
    status, output, errors = call(sys.executable, "-ISB", HERE / "importer.pyz", *words, "--json")
    lines = output.strip().splitlines()
    answer = json.loads(lines[-1]) if lines else {"errors": errors[-1000:]}
    return {"status": status, **answer}


def take(store: Path) -> dict[str, Any]:
    """Import the bundle from its medium."""
    fingerprint = (HERE / "fingerprint").read_text()
    return importer(
        "import", "--store", store, "--medium", HERE / "bundle", "--site", "x",
        "--root-sha256", fingerprint, "--accept-scope", "lab", "--quiet",
    )  # fmt: skip


def release(store: Path) -> dict[str, Any]:
    """Have two people approve, and activate."""
    signers = ("--allowed-signers", HERE / "allowed_signers")
    for person in ("alice", "bob"):
        key = HERE / "people" / person
        importer("approve", "--store", store, *signers, "--person", person, "--key", key)
    return importer("activate", "--store", store, *signers)


def refusal(action: Any) -> str:
    """Return the name of the error that an action ends with, empty if it succeeds."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def forget() -> None:
    """Empty the page cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def damage(path: Path, device: str) -> None:
    """Change a byte of a file on the disk underneath, which no file system notices."""
    os.sync()
    with path.open("rb") as stream:
        answer = fcntl.ioctl(stream, _FIBMAP, struct.pack("i", 0))
        offset = struct.unpack("i", answer)[0] * _BLOCK
        first = stream.read(16)
    descriptor = os.open(device, os.O_RDWR)
    try:
        # What the kernel remembers of the device is older than the file.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(descriptor, 16, offset) != first:
            raise RuntimeError(f"{path} is not at {offset} of {device}")
        os.pwrite(descriptor, bytes([first[-1] ^ 1]), offset + 15)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def events(store: Path) -> list[dict[str, Any]]:
    """Return the store's audit events."""
    raw = (store / "state" / "events.jsonl").read_text()
    return [json.loads(line) for line in raw.splitlines()]


def verify_model(where: Path, folder: Path, max_age: int) -> dict[str, Any]:
    """Run the check before an engine's start."""
    listing = where / "model.json"
    if not listing.exists():
        files = [
            {
                "path": str(path.relative_to(folder)),
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        listing.write_text(json.dumps([{"folder": str(folder), "files": files}]))
    began = time.monotonic()
    script = HERE / "verify_model.py"
    status, _, said = call(sys.executable, "-I", script, listing, where / "verified", max_age)
    return {"status": status, "said": said, "seconds": time.monotonic() - began}


def age(record: Path, seconds: int) -> None:
    """Let the record of what was hashed be older."""
    rows = json.loads(record.read_text())
    for row in rows.values():
        row["hashed"] -= seconds
    record.write_text(json.dumps(rows))


def try_store(where: Path, device: str) -> dict[str, Any]:
    """Import, release, damage, scrub and repair on one file system."""
    from tresor.bundle import verity

    store = where / "store"
    found: dict[str, Any] = {"import": take(store), "activate": release(store)}
    if found["activate"].get("state") != "ACTIVE":
        raise RuntimeError(f"nothing to look at: {found}")
    blobs = [path for path in (store / "blobs").rglob("*") if path.is_file()]
    measures = {path: verity.measure(path) for path in blobs}
    found["blobs"] = len(blobs)
    found["measured"] = sum(value is not None for value in measures.values())
    # Another program computes the same digest from the contents, and asks the kernel for its own.
    computed = call("fsverity", "digest", "--compact", *blobs)[1].splitlines()
    found["computed"] = sum(
        line == value for line, value in zip(computed, measures.values(), strict=True)
    )
    asked = call("fsverity", "measure", *blobs)[1].splitlines()
    found["asked"] = sum(f"sha256:{value} {path}" in asked for path, value in measures.items())
    found["sealed_events"] = [
        row["contents"] for row in events(store) if row["event"] == "store.sealed"
    ]
    weights = max(blobs, key=lambda path: path.stat().st_size)
    weights.chmod(0o644)
    found["write"] = refusal(lambda: weights.open("r+b"))
    found["truncate"] = refusal(lambda: os.truncate(weights, weights.stat().st_size))
    weights.chmod(0o444)
    found["scrub_before"] = importer("scrub", "--store", store)
    # It stays in memory, where it is good: a scrub has to look at the disk.
    weights.read_bytes()
    damage(weights, device)
    found["scrub"] = importer("scrub", "--store", store)
    found["scrub_events"] = [row["event"] for row in events(store)][-1]
    forget()
    found["read"] = refusal(weights.read_bytes)
    found["map"] = map_first(weights)
    found["repair"] = take(store)
    found["scrub_after"] = importer("scrub", "--store", store)
    again = verity.measure(store / "blobs" / weights.parent.name / weights.name)
    found["measured_after"] = again == measures[weights] and again is not None
    return found


def map_first(path: Path) -> int:
    """Touch a mapped file as an engine loads its weights; return how the process ended."""
    code = "import mmap,sys; f=open(sys.argv[1],'rb'); mmap.mmap(f.fileno(),0,prot=1)[0]"
    return call(sys.executable, "-c", code, path)[0]


def try_model(where: Path, device: str) -> dict[str, Any]:
    """Check a host's copy of a model before its engine starts."""
    from tresor.bundle import verity

    folder = where / "model"
    folder.mkdir()
    weights, other = folder / "model.safetensors", folder / "config.json"
    weights.write_bytes(os.urandom(16 * 1024 * 1024))
    other.write_text("{}")
    found: dict[str, Any] = {"sealed": verity.seal_all([weights, other])}
    found["again"] = verity.seal_all([weights, other])
    found["first"] = verify_model(where, folder, 3600)
    record = where / "verified"
    age(record, 7200)
    before = record.read_text()
    found["old"] = verify_model(where, folder, 3600)
    found["old_hashed_again"] = json.loads(record.read_text()) != json.loads(before)
    damage(weights, device)
    forget()
    found["inside_age"] = verify_model(where, folder, 10**6)
    found["read"] = refusal(weights.read_bytes)
    found["zero_age"] = verify_model(where, folder, 0)
    record.unlink()
    found["no_record"] = verify_model(where, folder, 3600)
    return found


def replaced(where: Path) -> dict[str, Any]:
    """Put another sealed file in a sealed file's place: the record must not speak for it."""
    from tresor.bundle import verity

    base = where / "replaced"
    folder = base / "model"
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"right" * 1000)
    verity.seal_all([weights])
    first = verify_model(base, folder, 3600)
    weights.unlink()
    weights.write_bytes(b"wrong" * 1000)
    verity.seal_all([weights])
    return {"first": first, "second": verify_model(base, folder, 3600)}


def main() -> dict[str, Any]:
    """Try everything on both file systems."""
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        mount(kind, target, kind)
    for module in ("virtio_pci", "virtio_blk"):
        status, _, said = call("modprobe", module)
        if status:
            raise RuntimeError(f"modprobe {module}: {said}")
    for _ in range(100):
        if Path("/dev/vdb").exists():
            break
        time.sleep(0.1)
    sys.path.insert(0, str(HERE / "importer.pyz"))
    found: dict[str, Any] = {"kernel": os.uname().release}
    for name, device in (("verity", "/dev/vda"), ("plain", "/dev/vdb")):
        where = Path("/srv") / name
        mount(device, str(where), "ext4")
        found[name] = {
            "store": try_store(where, device),
            "model": try_model(where, device),
            "replaced": replaced(where),
        }
    return found


if __name__ == "__main__":
    try:
        findings = main()
    except BaseException:
        findings = {"error": traceback.format_exc()}
    print(f"\n{MARK}{json.dumps(findings)}", flush=True)
    os.sync()
    _LIBC.reboot(_REBOOT_OFF)
