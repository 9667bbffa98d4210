"""The control never leaves a host open: every way it can end, with a fake host."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tresor.probe.control import ControlError, Result, Rules, control
from tresor.probe.exchange import BLOCKED, REACHED, REFUSED, SILENT, Outcome
from tresor.probe.targets import Probe

CLOSED = (
    "*filter\n:OUTPUT DROP [0:0]\n"
    '[5:300] -A OUTPUT -m comment --comment "drop:out" -j DROP\nCOMMIT\n'
)
OPEN = "*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"


class Host:
    """Understands the commands of the control; families share one state."""

    def __init__(self) -> None:
        self.rules = CLOSED
        self.timer = False
        self.commands: list[str] = []
        self.fail: set[str] = set()
        self.restore_changes = ""

    def run(self, command: Sequence[str], text: str | None) -> Result:
        name = " ".join(command[:2])
        self.commands.append(name)
        if command[0] in self.fail or name in self.fail:
            return Result(1, "", "failed on purpose")
        if command[0].endswith("-save"):
            return Result(0, self.rules, "")
        if command[0].endswith("-restore"):
            self.rules = OPEN if "--noflush" in command else (text or "") + self.restore_changes
        if command[0] == "systemd-run":
            self.timer = True
        if name == "systemctl stop":
            self.timer = False
        return Result(0, "", "")


def probe(target: str, proto: str = "tcp") -> Probe:
    return Probe("id", "what", False, target, "ipv4", "203.0.113.10", proto, 443, "root")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def rules(host: Host, tmp_path: Path) -> Rules:
    return Rules(host.run, tmp_path / "state", ["ipv4", "ipv6"])


def go(
    host: Host,
    rules: Rules | None,
    kinds: dict[str, str] | None = None,
    udp_before: str = BLOCKED,
) -> dict[str, bool]:
    """Run the control; ``kinds`` says what probes meet while the output is open."""

    def send(probes: Sequence[Probe], _timeout: float) -> list[tuple[Probe, Outcome | str]]:
        if host.rules == CLOSED:
            kind = {"tcp": SILENT, "udp": udp_before}
            return [(p, Outcome(kind[p.proto], "d", 1)) for p in probes]
        met = {"canary": REACHED, "ops1": SILENT, **(kinds or {})}
        if met["canary"] == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if met["canary"] == "crash":
            raise ZeroDivisionError
        return [(p, Outcome(met[p.target], "d", 0.1)) for p in probes]

    checks = control(
        "gpu1",
        [probe("canary"), probe("canary", "udp")],
        [probe("ops1")],
        rules,
        send,
        timeout=1,
        restore_after=20,
    )
    return {check.id: check.ok for check in checks}


def test_the_same_probe_is_dropped_then_arrives_then_rules_are_back(
    host: Host, rules: Rules, tmp_path: Path
) -> None:
    assert go(host, rules) == {
        "control.before.gpu1.canary.tcp.ipv4.443": True,
        "control.before.gpu1.canary.udp.ipv4.443": True,
        "control.open.gpu1.canary.tcp.ipv4.443": True,
        "control.open.gpu1.canary.udp.ipv4.443": True,
        "control.input.gpu1.ops1.tcp.ipv4.443": True,
        "control.restored.gpu1": True,
    }
    assert host.rules == CLOSED
    assert not host.timer
    assert list((tmp_path / "state").iterdir()) == []


def test_a_datagram_that_leaves_while_the_rules_stand_fails_the_control(
    host: Host, rules: Rules
) -> None:
    result = go(host, rules, udp_before=SILENT)
    assert result["control.before.gpu1.canary.udp.ipv4.443"] is False
    assert result["control.before.gpu1.canary.tcp.ipv4.443"] is True


def test_the_timer_is_armed_before_anything_opens(host: Host, rules: Rules) -> None:
    go(host, rules)
    opened = host.commands.index("iptables-restore --noflush")
    assert host.commands.index("systemd-run --unit=tresor-probe-restore") < opened
    assert host.commands.index("systemctl is-active") < opened


@pytest.mark.parametrize("broken", ["systemd-run", "systemctl is-active", "ip6tables-save"])
def test_nothing_opens_without_saved_rules_and_a_timer(
    host: Host, rules: Rules, broken: str
) -> None:
    host.fail = {broken}
    assert go(host, rules)["control.open"] is False
    assert "iptables-restore --noflush" not in host.commands
    assert host.rules == CLOSED


def test_a_probe_that_never_arrives_fails_the_control(host: Host, rules: Rules) -> None:
    result = go(host, rules, {"canary": SILENT})
    assert result["control.open.gpu1.canary.tcp.ipv4.443"] is False
    assert result["control.restored.gpu1"] is True


def test_a_refusal_of_the_target_is_arrival(host: Host, rules: Rules) -> None:
    assert go(host, rules, {"canary": REFUSED})["control.open.gpu1.canary.tcp.ipv4.443"] is True


def test_a_target_without_input_rules_fails_the_control(host: Host, rules: Rules) -> None:
    assert go(host, rules, {"ops1": REACHED})["control.input.gpu1.ops1.tcp.ipv4.443"] is False


def test_a_signal_while_open_closes_first(host: Host, rules: Rules) -> None:
    result = go(host, rules, {"canary": "signal"})
    assert result["control.open"] is False
    assert result["control.restored.gpu1"] is True
    assert host.rules == CLOSED


def test_a_crash_while_open_closes_first(host: Host, rules: Rules) -> None:
    with pytest.raises(ZeroDivisionError):
        go(host, rules, {"canary": "crash"})
    assert host.rules == CLOSED


def test_the_timer_stays_when_the_rules_do_not_come_back(
    host: Host, rules: Rules, tmp_path: Path
) -> None:
    host.restore_changes = "[0:0] -A OUTPUT -j ACCEPT\n"
    assert go(host, rules)["control.restored.gpu1"] is False
    assert host.timer
    assert (tmp_path / "state" / "ipv4.rules").read_text() == CLOSED


def test_saved_rules_are_for_root_alone(host: Host, rules: Rules, tmp_path: Path) -> None:
    rules.save()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "ipv4.rules").stat().st_mode & 0o077 == 0


def test_a_host_without_rules_is_not_opened(host: Host, rules: Rules) -> None:
    host.rules = ""
    with pytest.raises(ControlError, match="converge the firewall first"):
        rules.save()


def test_check_mode_only_probes(host: Host) -> None:
    assert set(go(host, None)) == {
        "control.before.gpu1.canary.tcp.ipv4.443",
        "control.before.gpu1.canary.udp.ipv4.443",
    }
    assert host.commands == []
