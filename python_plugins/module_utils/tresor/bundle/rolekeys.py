"""Which keys a root may name, for which roles, and until when. Pure.

Every key may carry ``x-tresor-name`` (whose it is) and ``x-tresor-expires``. A builder's key ends
after weeks, an approver's after a year: what was signed with an ended key is refused, also while
the metadata itself has not ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Root

from .errors import RejectedError
from .sshsig import KEYTYPE, SCHEME

ROLES = ("root", "targets", "snapshot", "timestamp")
PEOPLE = ("root", "targets")
MACHINES = ("snapshot", "timestamp")
NAME_FIELD = "x-tresor-name"
EXPIRES_FIELD = "x-tresor-expires"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def check_keys(root: Root, path: str) -> None:
    """Refuse unknown key types, one key under two names, roles that are not the four.

    Raises:
        RejectedError: ``signature.key-type``, ``signature.key-twice``, ``signature.metadata``.
    """
    for key in root.keys.values():
        public = str(key.keyval.get("public", ""))
        plain = (key.keytype, key.scheme) == ("ed25519", "ed25519") and _HEX32.fullmatch(public)
        if not plain and (key.keytype, key.scheme) != (KEYTYPE, SCHEME):
            raise RejectedError(
                "signature.key-type", f"key {key.keyid[:16]} is {key.keytype}/{key.scheme}", path
            )
        unknown = set(key.unrecognized_fields) - {NAME_FIELD, EXPIRES_FIELD}
        if unknown:
            raise RejectedError(
                "signature.metadata", f"key {key.keyid[:16]} has {sorted(unknown)}", path
            )
        end_of(key, path)
        name_of(key, path)
    if set(root.roles) != set(ROLES):
        raise RejectedError("signature.metadata", f"roles are {sorted(root.roles)}", path)
    for role_name, role in root.roles.items():
        materials = {root.keys[keyid].keyval["public"] for keyid in role.keyids}
        if len(materials) != len(role.keyids):
            raise RejectedError(
                "signature.key-twice", f"role {role_name} counts one key under two names", path
            )


def check_policy(root: Root, path: str) -> None:
    """Refuse a root under which one person, or the builder alone, could release.

    Raises:
        RejectedError: ``signature.threshold``, ``signature.key-roles``, ``signature.one-person``.
    """
    weak = [role for role in PEOPLE if root.roles[role].threshold < 2]
    if weak:
        raise RejectedError(
            "signature.threshold",
            f"one key is enough for {', '.join(weak)}: such keys are for the lab. "
            "Import with --accept-scope lab if this machine is one",
            path,
        )
    people = _materials(root, PEOPLE)
    shared = people & _materials(root, MACHINES)
    if shared:
        raise RejectedError(
            "signature.key-roles",
            "a builder's key also stands for a person: whoever steals it could release",
            path,
        )
    for role in PEOPLE:
        keys = [root.keys[keyid] for keyid in root.roles[role].keyids]
        names = [name.casefold() for key in keys if (name := name_of(key, path))]
        if len(set(names)) != len(names):
            raise RejectedError(
                "signature.one-person", f"one person has two keys in role {role}", path
            )


def _materials(root: Root, roles: Iterable[str]) -> set[str]:
    return {
        str(root.keys[keyid].keyval["public"])
        for role in roles
        for keyid in root.roles[role].keyids
    }


def end_of(key: Key, path: str) -> datetime | None:
    """Return when a key ends, None if it does not say.

    Raises:
        RejectedError: ``signature.metadata``: not a time.
    """
    text = key.unrecognized_fields.get(EXPIRES_FIELD)
    if text is None:
        return None
    try:
        end = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        end = None
    if end is None or end.strftime(_TIME) != text:
        raise RejectedError("signature.metadata", f"{EXPIRES_FIELD} is {text!r}", path)
    return end


def name_of(key: Key, path: str) -> str:
    """Return whose key it is, empty if it does not say.

    Raises:
        RejectedError: ``signature.metadata``: not a name.
    """
    name = key.unrecognized_fields.get(NAME_FIELD, "")
    if name and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise RejectedError("signature.metadata", f"{NAME_FIELD} is {name!r}", path)
    return str(name)


def check_not_ended(key: Key, now: datetime, path: str) -> None:
    """Refuse a signature of a key whose time is over.

    Raises:
        RejectedError: rule ``signature.key-expired``.
    """
    end = end_of(key, path)
    if end is not None and now >= end:
        raise RejectedError(
            "signature.key-expired",
            f"key {name_of(key, path) or key.keyid[:16]} ended at {end.strftime(_TIME)}; "
            "sign again with a key of the present root",
            path,
        )
