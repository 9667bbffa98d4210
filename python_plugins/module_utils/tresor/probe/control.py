"""The positive control: with the output rules gone for a moment, the dropped probe arrives.

Without it, a probe that can never succeed (dead cable, wrong address) would pass as "dropped".
Only the OUTPUT chain is opened: input and forward stay closed, and a transient systemd timer
puts the saved rules back even when this process is killed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ..evidence.check import Check, not_run
from .counters import without_counters
from .exchange import REACHED, REFUSED, SILENT, Outcome
from .judge import dropped_here, endpoint
from .targets import Probe

UNIT = "tresor-probe-restore"
OPEN_OUTPUT = "*filter\n:OUTPUT ACCEPT [0:0]\n-F OUTPUT\nCOMMIT\n"
"""For iptables-restore --noflush: one atomic change that leaves every other chain as it is."""

_PREFIX = {"ipv4": "iptables", "ipv6": "ip6tables"}
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)


class ControlError(RuntimeError):
    """The control could not be carried out, or could not be undone."""


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str], str | None], Result]
"""Run a command with an input text; a program that is missing is a Result with code 127."""

Send = Callable[[Sequence[Probe], float], list[tuple[Probe, Outcome | str]]]


class Rules:
    """The filter tables of one host: save, open the output, put back, compare."""

    def __init__(self, run: Run, directory: Path, families: Sequence[str]) -> None:
        """Keep the saved tables under ``directory`` (on a file system that dies with the boot)."""
        self._run = run
        self._directory = directory
        self._families = families
        self._saved: dict[str, str] = {}

    def save(self) -> None:
        """Read the tables and write them where the timer finds them.

        Raises:
            ControlError: a table could not be read, or holds no rule at all.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for family in self._families:
            text = self._read(family)
            if "-A " not in text:
                raise ControlError(
                    f"{family} has no rules, there is nothing to open: converge the firewall first"
                )
            self._saved[family] = text
            path = self._path(family)
            path.touch(mode=0o600)
            path.write_text(text)

    def arm(self, seconds: int) -> None:
        """Start the timer that restores the saved tables after ``seconds``.

        Raises:
            ControlError: systemd refused; nothing has been opened then.
        """
        restore = "; ".join(
            f"{_PREFIX[family]}-restore --counters <{self._path(family)} || status=1"
            for family in self._families
        )
        self._must(
            [
                "systemd-run",
                f"--unit={UNIT}",
                f"--on-active={seconds}",
                "--timer-property=AccuracySec=100ms",
                "--description=Put the firewall back after the control of the network probes",
                "--collect",
                "/bin/sh",
                "-c",
                f"status=0; {restore}; exit $status",
            ]
        )
        self._must(["systemctl", "is-active", "--quiet", f"{UNIT}.timer"])

    def open_output(self) -> None:
        """Accept everything that leaves the host, until :meth:`restore` or the timer.

        Raises:
            ControlError: the change was refused.
        """
        for family in self._families:
            self._must([f"{_PREFIX[family]}-restore", "--noflush"], OPEN_OUTPUT)

    def restore(self) -> list[str]:
        """Put the saved tables back and return what is still different; empty when all is well.

        The timer is taken away only when the tables are equal again: while they are not, it is
        the last net.
        """
        problems: list[str] = []
        for family in self._families:
            result = self._run([f"{_PREFIX[family]}-restore", "--counters"], self._saved[family])
            if result.code:
                problems.append(f"{family}: restore ended with {result.code}: {result.err.strip()}")
        for family in self._families:
            try:
                now = without_counters(self._read(family))
            except ControlError as error:
                problems.append(str(error))
                continue
            if now != without_counters(self._saved[family]):
                problems.append(f"{family}: the rules differ from those saved before the control")
        if not problems:
            self._run(["systemctl", "stop", f"{UNIT}.timer"], None)
            for family in self._families:
                self._path(family).unlink(missing_ok=True)
        return problems

    def _read(self, family: str) -> str:
        return self._must([f"{_PREFIX[family]}-save", "-c", "-t", "filter"])

    def _path(self, family: str) -> Path:
        return self._directory / f"{family}.rules"

    def _must(self, command: Sequence[str], text: str | None = None) -> str:
        result = self._run(command, text)
        if result.code:
            raise ControlError(f"{command[0]} ended with {result.code}: {result.err.strip()}")
        return result.out


def control(
    host: str,
    canary: Sequence[Probe],
    closed: Sequence[Probe],
    rules: Rules | None,
    send: Send,
    *,
    timeout: float,
    restore_after: int,
) -> list[Check]:
    """Probe, open the output, probe again, put the rules back; return the checks.

    Args:
        canary: probes that must be dropped before and must arrive while the output is open.
        closed: probes to other hosts of the site that stay dropped all the time, because the
            target's own input rules drop them.
        rules: the host's rules; None sends the canary probes only and opens nothing.
        restore_after: seconds after which the timer closes the host again by itself.
    """
    checks = [_judge("before", host, pair) for pair in send(canary, timeout)]
    if rules is None:
        return checks
    pairs: list[tuple[str, tuple[Probe, Outcome | str]]] = []
    problems: list[str] | None = None
    started = time.monotonic()
    try:
        with _signals_raise(restore_after):
            rules.save()
            rules.arm(restore_after)
            try:
                rules.open_output()
                pairs.extend(("open", pair) for pair in send(canary, timeout))
                pairs.extend(("input", pair) for pair in send(closed, timeout))
            finally:
                problems = rules.restore()
    except ControlError as error:
        checks.append(not_run("control.open", "the control ran", str(error), source=host))
    checks.extend(_judge(phase, host, pair) for phase, pair in pairs)
    if problems is not None:
        checks.append(_restored(host, problems, time.monotonic() - started))
    return checks


def _restored(host: str, problems: list[str], seconds: float) -> Check:
    return Check(
        id=f"control.restored.{host}",
        what="the rules are back after the control",
        source=host,
        target=host,
        expected="the same rules as before, IPv4 and IPv6",
        observed="; ".join(problems) or f"the same, closed again after {seconds:.1f} s",
        ok=not problems,
        duration=seconds,
    )


_WHAT = {
    "before": "the control's probe is dropped while the rules stand",
    "open": "the same probe arrives with the output rules flushed",
    "input": "the target's own input rules drop it although the source is open",
}


def _wanted(phase: str, proto: str) -> tuple[set[str], str]:
    """Return the good kinds of outcome and how to say them.

    A refusal while the output is open comes from the target itself, so the packet arrived. UDP
    need not be answered at all; that the kernel no longer blocks it shows that the prober sends.
    In the phase "input" the datagram leaves this host, so that silence is the target's doing.
    """
    if phase == "before":
        expected, good = dropped_here(proto)
        return good, expected
    if phase == "input":
        return {SILENT}, "dropped without an answer"
    if proto == "tcp":
        return {REACHED, REFUSED}, "the target answers"
    return {REACHED, REFUSED, SILENT}, "the packet leaves this host"


def _judge(phase: str, host: str, pair: tuple[Probe, Outcome | str]) -> Check:
    probe, result = pair
    good, expected = _wanted(phase, probe.proto)
    check_id = f"control.{phase}.{host}.{probe.target}.{probe.proto}.{probe.family}.{probe.port}"
    target = endpoint(probe)
    if isinstance(result, str):
        return not_run(check_id, _WHAT[phase], result, source=host, target=target)
    return Check(
        id=check_id,
        what=_WHAT[phase],
        source=f"{host} as {probe.user}",
        target=target,
        expected=expected,
        observed=f"{result.kind}: {result.detail}",
        ok=result.kind in good,
        duration=result.seconds,
    )


@contextmanager
def _signals_raise(seconds: int) -> Iterator[None]:
    """Turn the signals that would end the process into an exception, so that ``finally`` runs."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise ControlError(f"interrupted by {signal.Signals(number).name}")

    old = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in old.items():
            signal.signal(number, handler)
