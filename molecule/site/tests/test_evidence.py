"""The site's own proof: complete, and nothing in it failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testinfra.host import Host


def test_verify_ran_and_nothing_failed(evidence: dict[str, Any]) -> None:
    assert evidence["totals"]["failed"] == 0
    assert evidence["totals"]["passed"] > 50


def test_positive_control_is_part_of_the_evidence(evidence: dict[str, Any]) -> None:
    control = {check["id"]: check["ok"] for check in evidence["checks"]}
    for begin in ("control.open.", "control.restored."):
        found = [ok for name, ok in control.items() if name.startswith(begin)]
        assert found, f"no check {begin}*"
        assert all(found)


def test_every_run_left_its_events(connect: Callable[[str], Host]) -> None:
    bastion = connect("bastion")
    records = bastion.check_output("ls -d /var/lib/tresor/runs/*/record.json").split()
    assert len(records) >= 3
    events = bastion.check_output(
        "find /var/lib/tresor/runs -path '*job_events*' -name '*.json' | wc -l"
    )
    assert int(events) > 100


def test_units_run_and_survive_on_their_own_users(connect: Callable[[str], Host]) -> None:
    for name, unit, user in (
        ("gateway1", "tresor-nginx", "www-data"),
        ("gateway1", "tresor-gateway", "tresor-gateway"),
        ("gpu1", "tresor-vllm@chat-gpu1", "vllm"),
        ("gpu2", "tresor-vllm@chat-gpu2", "vllm"),
    ):
        host = connect(name)
        assert host.service(unit).is_running, f"{unit} on {name}"
        assert host.run(f"pgrep -u {user}").rc == 0, f"no process of {user} on {name}"
