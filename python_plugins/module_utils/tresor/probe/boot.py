"""Judge whether the firewall comes back with the next boot."""

from __future__ import annotations

from ..evidence.check import Check

UNIT = "tresor-firewall.service"
SHOW = (
    "systemctl",
    "show",
    "--property=LoadState,UnitFileState,ActiveState,ConditionTimestampMonotonic",
    UNIT,
)
"""The command whose output :func:`judge_boot` reads."""


def judge_boot(host: str, shown: str) -> Check:
    """Say whether the unit that loads the rules at boot is enabled, and did so at this boot.

    A converge loads the rules itself, so on a host that was not booted since its first converge
    the unit was never started: it is inactive, and systemd never looked at its conditions. That
    passes. One that is inactive although it was started failed, was skipped or was stopped.
    """
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    enabled, active = state.get("UnitFileState") or "no unit file", state.get("ActiveState")
    waits = active == "inactive" and state.get("ConditionTimestampMonotonic") == "0"
    seen = "not started yet, loaded by converge" if waits else active or "unknown"
    return Check(
        id=f"network.boot.{host}",
        what="the firewall is loaded at boot",
        source=host,
        target=f"{UNIT} of {host}",
        expected="enabled, and active if this host was booted since its first converge",
        observed=f"{enabled}, {seen}",
        ok=state.get("LoadState") == "loaded"
        and enabled == "enabled"
        and (active == "active" or waits),
    )
