"""Plug a directory of the machine into a running host as a read-only medium, and pull it out.

The mount is made detached in the machine's mount namespace and attached in the host's: the
host cannot see anything of the machine but that directory. util-linux 2.38 has no command for
this, hence the system calls; their numbers are the same on all 64-bit architectures of Debian.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from lab.errors import lab_error
from lab.host import LabHost

TARGET = "/media/tresor"

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_EMPTY_PATH, _AT_FDCWD = 0x1000, -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_CLONE_NEWNS = 0x00020000
_LIBC = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def attach(host: LabHost, directory: Path) -> bool:
    """Mount a directory at /media/tresor of a running host; return whether it was not yet.

    Raises LabError when the directory does not exist or another medium is in the host.
    """
    source = directory.resolve()
    if not source.is_dir():
        raise lab_error("medium", f"{source} is not a directory", "Give an existing directory")
    leader = host.leader()
    if _mounted(leader.pid):
        inside = Path(f"/proc/{leader.pid}/root{TARGET}").stat()
        if (inside.st_dev, inside.st_ino) == (
            source.stat().st_dev,
            source.stat().st_ino,
        ):
            return False
        raise lab_error(
            f"medium of {host.name}",
            "another one is mounted",
            f"Pull it out first: labctl unmount-medium {host.name}",
        )
    tree = _check(
        _LIBC.syscall(
            _OPEN_TREE,
            _AT_FDCWD,
            os.fsencode(source),
            _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC,
        ),
        f"copy the mount of {source}",
    )
    try:
        attributes = _MountAttributes(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        result = _LIBC.syscall(
            _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size
        )
        _check(result, "make the mount read-only")
        _attach_inside(leader.pid, tree)
    finally:
        os.close(tree)
    return True


def _attach_inside(leader: int, tree: int) -> None:
    """Attach a detached mount in the namespace of another process (in a child of ours)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            namespace = os.open(f"/proc/{leader}/ns/mnt", os.O_RDONLY)
            _check(_LIBC.setns(namespace, _CLONE_NEWNS), "enter the host")
            Path(TARGET).mkdir(parents=True, exist_ok=True)
            result = _LIBC.syscall(
                _MOVE_MOUNT,
                tree,
                b"",
                _AT_FDCWD,
                TARGET.encode(),
                _MOVE_MOUNT_F_EMPTY_PATH,
            )
            _check(result, f"mount at {TARGET}")
            status = 0
        except Exception as error:  # the child may only report and end
            os.write(writer, str(error).encode()[:2000])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        message = stream.read().decode(errors="replace")
    _, result = os.waitpid(child, 0)
    if result != 0:
        raise lab_error("medium", message or "could not be attached", "Reboot the host and retry")


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise lab_error("medium", f"cannot {what}: {os.strerror(code)}", "Check the kernel (5.12+)")
    return int(result)


def detach(host: LabHost) -> bool:
    """Pull the medium out, even in the middle of its use; return whether there was one."""
    leader = host.leader()
    if not _mounted(leader.pid):
        return False
    while _mounted(leader.pid):
        host.run(["umount", "--lazy", TARGET])
    return True


def _mounted(leader: int) -> bool:
    lines = Path(f"/proc/{leader}/mountinfo").read_text().splitlines()
    return any(line.split()[4] == TARGET for line in lines)
