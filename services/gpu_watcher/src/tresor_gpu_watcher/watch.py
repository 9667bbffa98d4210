"""The watcher's turn: take XIDs in, wait until they settle, decide, act, remember."""

from __future__ import annotations

from collections.abc import Callable

from tresor.gpu.xid import Action, Xid, judge
from tresor_gpu_watcher.act import Actor, Audit
from tresor_gpu_watcher.config import Config
from tresor_gpu_watcher.policy import Decision, decide
from tresor_gpu_watcher.state import State


class Watch:
    """Holds the XIDs that have not settled; everything that must last is in the state.

    `keep` writes the state to disk. It is called before an action, so that a host that crashes in
    one does not forget that it was taken.
    """

    def __init__(
        self,
        config: Config,
        state: State,
        actor: Actor,
        audit: Audit,
        keep: Callable[[State], None],
    ) -> None:
        """Take the parts; nothing is done yet."""
        self._config = config
        self.state = state
        self._actor = actor
        self._audit = audit
        self._keep = keep
        self._open: list[Xid] = []
        self._last = 0.0

    def begin(self) -> None:
        """After a reboot of its own doing the host proves itself, or its engines stop again."""
        if not self.state.proof_due:
            return
        problems = self._actor.prove()
        self.state.proof_due = False
        if problems:
            self._audit("unhealthy_after_reboot", problems=problems)
            self._stop()
        else:
            self._audit("healthy_after_reboot")
        self._keep(self.state)

    def take(self, xid: Xid, cursor: str, now: float) -> None:
        """Take one XID in."""
        self.state.xids[xid.pci, xid.code] += 1
        self.state.cursor = cursor
        self._open.append(xid)
        self._last = now
        self._audit("xid", pci=xid.pci, xid=xid.code, text=xid.text)

    def waits(self, now: float) -> float | None:
        """Return the seconds until the open XIDs have settled; None if there are none."""
        if not self._open:
            return None
        return max(0.0, self._last + self._config.settle_seconds - now)

    def settle(self, now: float) -> Decision | None:
        """Decide and act on the XIDs that have settled; return the decision."""
        if self._open == [] or (self.waits(now) or 0) > 0:
            return None
        verdicts, self._open = judge(self._open), []
        decision = decide(verdicts, self.state, self._config, now)
        self._audit(
            "decided",
            wanted=decision.wanted.word,
            action=decision.action.word,
            gpus=list(decision.gpus),
            reason=decision.reason,
        )
        self.state.capped = decision.capped
        if decision.needs_somebody:
            self._stop()
        elif decision.drain:
            self._act(decision, now)
        self._keep(self.state)
        return decision

    def _act(self, decision: Decision, now: float) -> None:
        engines = self._actor.drain()
        self.state.note(now, decision.action.word)
        if decision.action == Action.REBOOT_HOST:
            self._reboot()
            return
        self._keep(self.state)
        problems = self._actor.repair(decision.action, decision.gpus)
        if not problems:
            self._audit("repaired", action=decision.action.word)
            self._actor.resume(engines)
            self.state.drained = []
            return
        self._audit("not_repaired", action=decision.action.word, problems=problems)
        again = self.state.taken(now) < self._config.daily_cap
        if again and Action.REBOOT_HOST in self._config.automatic:
            self.state.note(now, Action.REBOOT_HOST.word)
            self._reboot()
        else:
            self.state.capped = not again
            self.state.drained = sorted({*self.state.drained, *engines})

    def _reboot(self) -> None:
        self.state.proof_due = True
        self._keep(self.state)
        self._audit("reboot")
        self._actor.reboot()

    def _stop(self) -> None:
        engines = self._actor.drain()
        self.state.drained = sorted({*self.state.drained, *engines})
