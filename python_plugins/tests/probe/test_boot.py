"""Whether the rules come back with the next boot, on what systemctl show prints."""

from __future__ import annotations

import pytest

from tresor.probe.boot import judge_boot


def shown(load: str, file: str, active: str, conditions_checked: int) -> str:
    return (
        f"LoadState={load}\nActiveState={active}\nUnitFileState={file}\n"
        f"ConditionTimestampMonotonic={conditions_checked}\n"
    )


@pytest.mark.parametrize(
    ("text", "ok", "observed"),
    [
        (shown("loaded", "enabled", "active", 99), True, "enabled, active"),
        (
            shown("loaded", "enabled", "inactive", 0),
            True,
            "enabled, not started yet, loaded by converge",
        ),
        (shown("loaded", "enabled", "inactive", 99), False, "enabled, inactive"),
        (shown("loaded", "enabled", "failed", 99), False, "enabled, failed"),
        (shown("loaded", "enabled-runtime", "active", 99), False, "enabled-runtime, active"),
        (shown("loaded", "disabled", "active", 99), False, "disabled, active"),
        (shown("masked", "masked", "inactive", 0), False, None),
        (shown("not-found", "", "inactive", 0), False, None),
        ("", False, "no unit file, unknown"),
    ],
)
def test_only_a_unit_that_loads_the_rules_at_boot_passes(
    text: str, ok: bool, observed: str | None
) -> None:
    check = judge_boot("gpu1", text)
    assert check.ok is ok
    assert observed in (None, check.observed)
