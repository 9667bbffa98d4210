"""The joint between the importer and the policy gates: every gate must have spoken.

A bundle whose contents are verified goes through the gates before anybody may approve it. The
verdicts are kept beside the pending bundle and shown to the approvers; without a complete set
nothing can be approved or become active. A gate that breaks, or says nothing, refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ..policy import hook
from ..policy.verdict import NOTE, PASS, RED, REFUSE, Verdict
from .canonical import dump_canonical
from .content import Locate
from .errors import BundleError, EnvironmentNotReadyError, RejectedError, printable
from .layout import Store, write_atomic
from .manifest import BundleManifest

__all__ = ["GATES", "NOTE", "PASS", "RED", "REFUSE", "GateInput", "Verdict", "judge", "require"]

VERDICTS_FILE = "verdicts.json"


@dataclass(frozen=True, slots=True)
class GateInput:
    """What a gate may look at; the contents are verified and on our disk."""

    manifest: BundleManifest
    locate: Locate
    site: str
    now: datetime
    store: Store


Gate = Callable[[GateInput], Iterable[Verdict]]


def _whole(given: GateInput) -> list[Verdict]:
    """Every listed content is here with its size (its digest was checked while it was copied)."""
    for entry in given.manifest.blobs().values():
        if given.locate(entry.sha256).stat().st_size != entry.size:
            return [
                Verdict("contents", "contents.size", REFUSE, entry.path, "not of the listed size")
            ]
    return [Verdict("contents", "contents.passed", PASS, given.manifest.id, "complete")]


GATES: dict[str, Gate] = {"contents": _whole, **hook.GATES}
"""All gates by name; each must end with :data:`PASS` or refuse."""


def judge(given: GateInput, gates: Mapping[str, Gate] | None = None) -> list[Verdict]:
    """Run every gate and return all verdicts; what goes wrong inside a gate refuses.

    Raises:
        EnvironmentNotReadyError: the site's rules or its scanner cannot be used.
    """
    found: list[Verdict] = []
    for name, gate in (GATES if gates is None else gates).items():
        try:
            found.extend(gate(given))
        except EnvironmentNotReadyError:
            raise
        except BundleError as error:
            found.append(Verdict(name, error.rule, REFUSE, error.path or name, str(error)))
        except Exception as error:
            found.append(
                Verdict(
                    name,
                    f"{name}.error",
                    REFUSE,
                    name,
                    printable(f"{type(error).__name__}: {error}"),
                    "Nothing was accepted; report this with the bundle's id",
                )
            )
    return found


def require(verdicts: Sequence[Verdict], names: Iterable[str] | None = None) -> None:
    """Refuse unless every gate spoke and none refused.

    Raises:
        RejectedError: the rule of the first refusal, or ``policy.silent``.
    """
    for item in verdicts:
        if item.severity not in (RED, NOTE, PASS):
            others = sum(other.severity == REFUSE for other in verdicts) - 1
            more = f" (and {others} more)" if others > 0 else ""
            raise RejectedError(item.rule, f"{item.seen}. {item.action}{more}", item.thing)
    passed = {item.gate for item in verdicts if item.severity == PASS}
    silent = sorted(set(GATES if names is None else names) - passed)
    if silent:
        raise RejectedError("policy.silent", f"no result of the gate {', '.join(silent)}")


def save(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Keep the verdicts beside the pending bundle."""
    listing = [asdict(item) for item in verdicts]
    write_atomic(folder / VERDICTS_FILE, dump_canonical(listing) + b"\n", 0o600)


def load(folder: Path) -> list[Verdict]:
    """Read the verdicts of a pending bundle.

    Raises:
        EnvironmentNotReadyError: rule ``policy.missing``: none, or damaged.
    """
    path = folder / VERDICTS_FILE
    try:
        return [Verdict(**item) for item in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentNotReadyError(
            "policy.missing",
            f"the gates' results of the waiting bundle cannot be read ({error}); import it again",
            str(path),
        ) from error
