"""The one setting of the machine that a lab needs raised, and that is put back afterwards.

Every systemd holds several inotify instances. All hosts' systemds run as the machine's root, and
the kernel allows a user 128 instances by default: enough for one lab, not for two. A host that
gets none hangs in the middle of its boot.
"""

from __future__ import annotations

from pathlib import Path

from lab.errors import lab_error
from lab.settings import RUN_ROOT
from lab.shell import write_atomic

INSTANCES = 4096
_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def raise_inotify_limit(limit: Path = _LIMIT, record_in: Path = RUN_ROOT) -> bool:
    """Raise the limit if it is lower than ``INSTANCES``; return whether it was.

    The old value is kept until ``restore_inotify_limit``. LabError when it cannot be written.
    """
    before = int(limit.read_text())
    if before >= INSTANCES:
        return False
    write_atomic(record_in / "inotify-instances", f"{before}\n")
    try:
        limit.write_text(f"{INSTANCES}\n")
    except OSError as error:
        raise lab_error(
            "kernel setting fs.inotify.max_user_instances",
            f"{before}, and it cannot be changed: {error.strerror}",
            f"Set it on the machine: sysctl -w fs.inotify.max_user_instances={INSTANCES}",
        ) from error
    return True


def restore_inotify_limit(limit: Path = _LIMIT, record_in: Path = RUN_ROOT) -> None:
    """Put the old value back, unless somebody has set another one since."""
    record = record_in / "inotify-instances"
    if not record.exists():
        return
    if int(limit.read_text()) == INSTANCES:
        limit.write_text(record.read_text())
    record.unlink()
