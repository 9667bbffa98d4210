"""Decide what is done about the XIDs of a moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tresor.gpu.xid import Action, Verdict
from tresor_gpu_watcher.config import AUTOMATIC, Config
from tresor_gpu_watcher.state import State


@dataclass(frozen=True)
class Decision:
    """What is done: `action` itself, whether engines stop, and why in words.

    `wanted` is what the XIDs ask for; `action` is milder where the site or the cap forbids it.
    """

    wanted: Action
    action: Action
    drain: bool
    gpus: tuple[str, ...]
    reason: str
    capped: bool = False

    @property
    def needs_somebody(self) -> bool:
        """Return whether a person has to look before engines run again."""
        return self.drain and self.action not in AUTOMATIC


def decide(verdicts: Sequence[Verdict], state: State, config: Config, now: float) -> Decision:
    """Return the decision for all GPUs together: the strongest action counts for the host.

    A host that is drained already and waits for somebody is not touched again, unless the driver
    asks for more than before.
    """
    strongest = max((verdict.action for verdict in verdicts), default=Action.IGNORE)
    concerned = tuple(v.pci for v in verdicts if v.action == strongest)
    codes = ", ".join(
        f"XID {v.because[-1].code} on {v.pci}"
        for v in verdicts
        if v.action == strongest and v.because
    )
    unknown = sorted({code for verdict in verdicts for code in verdict.unknown})
    reason = codes or "no XID of a known bucket"
    if unknown:
        reason += f"; no bucket has XID {', '.join(map(str, unknown))}"
    if strongest not in AUTOMATIC:
        return Decision(strongest, strongest, strongest.drains, concerned, reason)
    if strongest not in config.automatic:
        reason += f"; the site leaves {strongest.word} to somebody"
        return Decision(strongest, Action.WORKFLOW, True, concerned, reason)
    taken = state.taken(now)
    if taken >= config.daily_cap:
        reason += f"; {taken} actions in 24 hours, the cap is {config.daily_cap}"
        return Decision(strongest, Action.WORKFLOW, True, concerned, reason, capped=True)
    return Decision(strongest, strongest, True, concerned, reason)
