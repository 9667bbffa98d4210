"""The joint between the importer and the policy gates: every gate must have spoken.

A bundle whose contents are verified goes through the gates before anybody may approve it. The
verdicts are kept beside the pending bundle and shown to the approvers; without a complete set
nothing can be approved or become active. A gate that breaks, or says nothing, refuses. Approvals
may take days: what time or the site's rules may have changed since is judged again before each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..policy import hook
from ..policy.verdict import NOTE, PASS, RED, REFUSE, Verdict, blocking
from .canonical import dump_canonical
from .content import Locate
from .errors import BundleError, EnvironmentNotReadyError, RejectedError, printable
from .layout import Store, write_atomic
from .manifest import BundleManifest

__all__ = ["GATES", "NOTE", "PASS", "RED", "REFUSE", "GateInput", "Verdict", "judge", "require"]

VERDICTS_FILE = "verdicts.json"


class RefusedError(RejectedError):
    """The gates refuse the bundle; the error is the first refusal's.

    Attributes:
        verdicts: everything that the gates said.
    """

    def __init__(self, rule: str, message: str, path: str, verdicts: Sequence[Verdict]) -> None:
        super().__init__(rule, message, path)
        self.verdicts = verdicts


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


def judge(given: GateInput, names: Iterable[str] | None = None) -> list[Verdict]:
    """Run the gates (all, or those of these names); what goes wrong inside a gate refuses.

    Raises:
        EnvironmentNotReadyError: not the bundle is wrong, but the site's rules or its scanner.
    """
    found: list[Verdict] = []
    for name in GATES if names is None else names:
        try:
            found.extend(GATES[name](given))
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


def judge_again(given: GateInput, before: Sequence[Verdict]) -> list[Verdict]:
    """Return ``before`` with fresh verdicts where time or the site's rules may change them.

    What stands on a waiver is asked again, and what :data:`hook.AGEING` names. The other gates
    judge packages and weights; these are the same as long as their digests are.

    Raises:
        EnvironmentNotReadyError: see :func:`judge`.
    """
    again = {*hook.AGEING, *(item.gate for item in before if item.severity == RED)} & set(GATES)
    kept = [item for item in before if item.gate not in again]
    return kept + judge(given, [name for name in GATES if name in again])


def require(verdicts: Sequence[Verdict]) -> None:
    """Refuse unless every gate spoke and none refused.

    Raises:
        RefusedError: the rule of the first refusal, or ``<gate>.silent``.
    """
    stops = blocking(verdicts, list(GATES))
    if not stops:
        return
    first = stops[0]
    more = f" (and {len(stops) - 1} more)" if stops[1:] else ""
    message = f"{first.seen}. {first.action}{more}"
    raise RefusedError(first.rule, message, first.thing, verdicts)


def save(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Keep the verdicts beside a pending bundle, or beside the reason of a refusal."""
    listing = [item.as_json() for item in verdicts]
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
