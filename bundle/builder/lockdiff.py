"""What a new lock changes, for the person who reviews it: each package, its sizes, and why."""

from __future__ import annotations

from collections import defaultdict

from bundle.builder.lock import LockedFile, PartLock

_MB = 1_000_000
_MANY = 200


def reason(old: PartLock | None, inputs: str, *, upgrade: bool) -> str:
    """Return why a part is resolved again.

    Args:
        old: the lock so far.
        inputs: digest of what the spec asks for now.
        upgrade: it was asked for.
    """
    if old is None:
        return "new in the spec"
    if old.inputs != inputs:
        return "the spec, or the requirements of one of our projects, changed"
    return "asked for with --upgrade" if upgrade else "unchanged"


def diff(old: PartLock | None, new: PartLock, why: str) -> list[str]:
    """Return lines for the screen; empty when nothing changed."""
    before, after = _by_name(old), _by_name(new)
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        lines += _package(name, before.get(name, []), after.get(name, []))
    notes = _details(old, new)
    if not lines and not notes:
        return []
    former = old.files if old else ()
    size = sum(item.size for item in new.files) - sum(item.size for item in former)
    count = len(new.files) - len(former)
    head = f"{new.part}: {why}; {count:+d} files, {size / _MB:+.1f} MB"
    shown = lines[:_MANY] + ([f"  … and {len(lines) - _MANY} more"] if lines[_MANY:] else [])
    return [head, *shown, *notes]


def _by_name(lock: PartLock | None) -> dict[str, list[LockedFile]]:
    found: dict[str, list[LockedFile]] = defaultdict(list)
    for entry in lock.files if lock else ():
        found[entry.name].append(entry)
    return found


def _package(name: str, before: list[LockedFile], after: list[LockedFile]) -> list[str]:
    known = {entry.sha256 for entry in before} & {entry.sha256 for entry in after}
    gone = [entry for entry in before if entry.sha256 not in known]
    came = [entry for entry in after if entry.sha256 not in known]
    if len(gone) == len(came) == 1:
        old, new = gone[0], came[0]
        if old.version != new.version:
            return [f"  ~ {name} {old.version} -> {new.version} ({_sizes(old, new)})"]
        # The dangerous one: a maker never changes a version's content.
        return [
            f"  ! {name} {new.version}: OTHER CONTENT UNDER THE SAME VERSION ({_sizes(old, new)}, "
            f"sha256 {old.sha256[:12]}… -> {new.sha256[:12]}…): find out why before you commit"
        ]
    lines = [f"  - {name} {entry.version}" for entry in gone]
    return lines + [f"  + {name} {entry.version} ({entry.size / _MB:.1f} MB)" for entry in came]


def _sizes(old: LockedFile, new: LockedFile) -> str:
    return f"{old.size / _MB:.1f} -> {new.size / _MB:.1f} MB"


def _details(old: PartLock | None, new: PartLock) -> list[str]:
    notes = []
    for key in sorted((old.details if old else {}).keys() | new.details.keys()):
        if (old.details.get(key) if old else None) != new.details.get(key):
            notes.append(f"  ~ {key}")
    return notes if old else []
