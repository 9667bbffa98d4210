"""A machine of a few seconds: Debian's kernel in QEMU, a Python as its first process, no network.

Debian's packages are unpacked, never installed; two disks are made by mkfs.ext4, one of them with
fs-verity. What the machine finds it says as one line of JSON on its serial console.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.builder import gpu_build
from bundle.builder.command import run

SYSTEM = "debian-12"
CODENAME = "bookworm"
PACKAGES = (
    "python3-minimal",
    "libpython3-stdlib",
    "openssh-client",
    "fsverity",
    "kmod",
    "cpio",
    "linux-image-cloud-amd64",
)
MARK = "TRESOR-FOUND "
"""What the line with the findings begins with."""
DISK_MIB = 256
MEMORY_MIB = 1536
TIMEOUT_S = 600
"""It is emulated: hardware support is not everywhere, and where it is offered it may hang."""
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_INSIDE = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "tresor", "dev", "tmp")
_MODULES = ("drivers/virtio", "drivers/block/virtio_blk")


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU starts."""

    kernel: Path
    memory: Path
    release: str


def unpack(folder: Path) -> Path:
    """Unpack kernel and Python from the machine's mirrors; return the tree."""
    root = folder / "root"
    lines = [line.replace(gpu_build.COMPONENTS, "main") for line in gpu_build.machine_lines(SYSTEM)]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
    command += [f"--hook-dir={_HOOKS}", f"--include={','.join(PACKAGES)}"]
    command += [f"--aptopt={option}" for option in gpu_build.machine_options()]
    text = "\n".join(lines) + "\n"
    run([*command, CODENAME, str(root), "-"], what="unpack kernel and Python", stdin=text)
    return root


def machine(folder: Path, root: Path, payload: Path, init: Path) -> Machine:
    """Put a payload (seen as ``/tresor``) and a first process into the memory disk."""
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    run(["chroot", str(root), "depmod", release], what="list the kernel's modules")
    shutil.copytree(payload, root / "tresor", symlinks=True)
    shutil.copyfile(init, root / "init")
    (root / "init").chmod(0o755)
    # Unpacked packages have no accounts and no name of the system; ssh-keygen and importer ask.
    (root / "etc/passwd").write_text("root:x:0:0:root:/tmp:/usr/sbin/nologin\n", encoding="ascii")
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n', encoding="ascii")
    memory = folder / "memory.cpio"
    with memory.open("wb") as target:
        subprocess.run(
            ["chroot", str(root), "cpio", "--create", "--format=newc", "--quiet"],
            input="".join(f"{name}\n" for name in sorted(_names(root))).encode(),
            stdout=target,
            check=True,
            timeout=300,
        )
    return Machine(kernel, memory, release)


def _names(root: Path) -> Iterator[str]:
    """Yield what the machine needs of a tree; of the modules, those of its disks."""
    yield from ("init", "bin", "sbin", "lib", "lib64", "usr")
    for top in _INSIDE:
        yield top
        for path in (root / top).rglob("*"):
            name = str(path.relative_to(root))
            if not path.name.endswith(".ko") or any(part in name for part in _MODULES):
                yield name


def disk(path: Path, *, verity: bool) -> Path:
    """Make an empty disk with ext4; Linux before 6.3 has fs-verity only for blocks of a page."""
    with path.open("wb") as stream:
        stream.truncate(DISK_MIB * 1024 * 1024)
    features = ["-O", "verity"] if verity else []
    run(["mkfs.ext4", "-q", "-F", "-b", "4096", *features, str(path)], what="make a file system")
    return path


def boot(what: Machine, disks: list[Path], now: str) -> dict[str, Any]:
    """Start the machine and return what it found.

    Args:
        what: kernel and memory disk.
        disks: seen as ``/dev/vda`` and so on.
        now: its clock at the start, ``2026-11-23T12:00:00``.

    Raises:
        AssertionError: it said nothing; with the end of its console.
    """
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg"]
    command += ["-m", str(MEMORY_MIB), "-smp", "2", "-nic", "none", "-nodefaults", "-no-reboot"]
    command += ["-display", "none", "-serial", "stdio", "-rtc", f"base={now}"]
    command += ["-kernel", str(what.kernel), "-initrd", str(what.memory)]
    command += ["-append", "console=ttyS0 rdinit=/init panic=-1 quiet"]
    for path in disks:
        command += ["-drive", f"file={path},format=raw,if=virtio,cache=unsafe"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    console = done.stdout.decode(errors="replace")
    for line in console.splitlines():
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return found
    raise AssertionError(
        f"the machine said nothing (status {done.returncode}): "
        f"{console[-4000:]}\n{done.stderr.decode(errors='replace')[-1000:]}"
    )
