"""From the kernel's log to the action: what is stopped, reset, rebooted, and when not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tresor.gpu.commands import Outcome
from tresor.gpu.xid import Action, parse_line
from tresor_gpu_watcher import metrics, state
from tresor_gpu_watcher.act import Actor
from tresor_gpu_watcher.config import Config, ConfigError, read
from tresor_gpu_watcher.follow import Follower
from tresor_gpu_watcher.program import main
from tresor_gpu_watcher.state import State
from tresor_gpu_watcher.watch import Watch

TIMEOUT = "NVRM: Xid (PCI:0000:18:00): 119, pid=1, Timeout after 6s of waiting for RPC response"
LOST = "NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus."
FAULT = "NVRM: Xid (PCI:0000:18:00): 31, pid=79749, name=python3, MMU Fault"
DOUBLE = "NVRM: Xid (PCI:0000:18:00): 48, DBE (double bit error)"
REBOOT = (
    "NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node "
    "Reboot Required)"
)
NOW = 1_800_000_000.0
ENGINE = "tresor-vllm@chat.service"


def configuration(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "host": "gpu1",
        "automatic": ["restart_fabric", "reset_gpu", "reboot_host"],
        "daily_cap": 3,
        "settle_seconds": 10,
        "engine_units": "tresor-vllm@*.service",
        "gpu_units": ["tresor-dcgm-exporter.service", "nvidia-dcgm.service"],
        "fabric": False,
        "state_file": str(tmp_path / "state.json"),
        "metrics_file": str(tmp_path / "gpu.prom"),
        "command_timeout_seconds": 60,
        **changes,
    }


class Host:
    """A host that runs one engine; remembers commands and records."""

    def __init__(self, tmp_path: Path, sick: Sequence[list[str]] = (), **changes: Any) -> None:
        self.config: Config = read(configuration(tmp_path, **changes))
        self.ran: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.kept: list[str] = []
        self.sick = list(sick)
        self.engines = [ENGINE]
        self.fresh()

    def fresh(self) -> None:
        actor = Actor(self.config, self.run, self.prove, self.audit)
        kept = state.load(self.config.state_file)
        self.watch = Watch(self.config, kept, actor, self.audit, self.keep)

    def run(self, command: Sequence[str]) -> Outcome:
        line = " ".join(command)
        if "list-units" in line:
            return Outcome(0, "".join(f"{e} loaded active running x\n" for e in self.engines))
        if line.startswith("systemctl stop tresor-vllm"):
            self.engines = []
        self.ran.append(line)
        return Outcome(0, "")

    def prove(self) -> list[str]:
        return self.sick.pop(0) if self.sick else []

    def audit(self, event: str, **fields: Any) -> None:
        self.records.append({"event": event, **fields})

    def keep(self, current: State) -> None:
        self.kept.append(f"{len(self.ran)}")
        state.save(self.config.state_file, current)

    def log(self, *lines: str, at: float = NOW) -> Action | None:
        for line in lines:
            xid = parse_line(line)
            assert xid is not None
            self.watch.take(xid, "s=1", at)
        decision = self.watch.settle(at + self.config.settle_seconds)
        return decision.action if decision else None

    def events(self) -> list[str]:
        return [record["event"] for record in self.records]


def test_application_error_is_recorded_and_nothing_stops(tmp_path: Path) -> None:
    host = Host(tmp_path)

    assert host.log(FAULT) == Action.RESTART_APP
    assert host.ran == []
    assert host.events() == ["xid", "decided"]


def test_reset_stops_engines_and_what_holds_the_devices_and_starts_them_again(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)

    assert host.log(TIMEOUT) == Action.RESET_GPU
    assert host.ran == [
        f"systemctl stop {ENGINE}",
        "systemctl stop tresor-dcgm-exporter.service nvidia-dcgm.service",
        "nvidia-smi --gpu-reset -i 0000:18:00.0",
        "systemctl start nvidia-dcgm.service tresor-dcgm-exporter.service",
        f"systemctl start {ENGINE}",
    ]
    assert host.events()[-2:] == ["repaired", "resumed"]


def test_fabric_takes_all_gpus_and_its_manager_is_restarted(tmp_path: Path) -> None:
    host = Host(tmp_path, fabric=True)

    host.log(TIMEOUT)

    assert "nvidia-smi --gpu-reset" in host.ran
    assert host.ran[-2] == "systemctl restart nvidia-fabricmanager.service"


def test_reset_that_did_not_help_ends_in_a_reboot(tmp_path: Path) -> None:
    host = Host(tmp_path, sick=[["driver: gone"]])

    host.log(TIMEOUT)

    assert host.ran[-1] == "systemctl reboot"
    assert f"systemctl start {ENGINE}" not in host.ran
    kept = state.load(host.config.state_file)
    assert [word for _, word in kept.actions] == ["reset_gpu", "reboot_host"]
    assert kept.proof_due


def test_lost_gpu_reboots_the_host_after_the_state_is_on_disk(tmp_path: Path) -> None:
    host = Host(tmp_path)

    host.log(LOST)

    assert host.ran == [f"systemctl stop {ENGINE}", "systemctl reboot"]
    assert host.kept[0] == "1", "the state was kept before the reboot was asked for"


def test_word_of_the_driver_counts(tmp_path: Path) -> None:
    assert Host(tmp_path).log(FAULT, REBOOT) == Action.REBOOT_HOST


def test_host_that_is_sick_after_its_reboot_serves_nobody(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.log(LOST)
    host.engines, host.sick, host.ran = [ENGINE], [["fabric: GPU 1"]], []
    host.fresh()

    host.watch.begin()

    assert host.ran == [f"systemctl stop {ENGINE}"]
    assert host.watch.state.drained == [ENGINE]
    assert not state.load(host.config.state_file).proof_due


def test_host_that_is_healthy_after_its_reboot_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.log(LOST)
    host.ran = []
    host.fresh()

    host.watch.begin()

    assert (host.ran, host.watch.state.drained) == ([], [])
    assert host.events()[-1] == "healthy_after_reboot"


def test_error_for_a_person_drains_and_does_nothing_else(tmp_path: Path) -> None:
    host = Host(tmp_path)

    assert host.log(DOUBLE) == Action.WORKFLOW
    assert host.ran == [f"systemctl stop {ENGINE}"]
    assert host.watch.state.drained == [ENGINE]


def test_cap_of_a_day_survives_restarts_and_ends_in_a_drained_host(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for hour in range(3):
        host.engines = [ENGINE]
        host.fresh()
        host.log(TIMEOUT, at=NOW + 3600 * hour)
    host.engines, host.ran = [ENGINE], []
    host.fresh()

    assert host.log(TIMEOUT, at=NOW + 4 * 3600) == Action.WORKFLOW
    assert host.ran == [f"systemctl stop {ENGINE}"]
    assert host.watch.state.capped
    assert "3 actions in 24 hours, the cap is 3" in host.records[-2]["reason"]

    host.engines, host.ran = [ENGINE], []
    assert host.log(TIMEOUT, at=NOW + 86400 + 8000) == Action.RESET_GPU


def test_action_that_the_site_keeps_for_itself_only_drains(tmp_path: Path) -> None:
    host = Host(tmp_path, automatic=["restart_fabric"])

    assert host.log(LOST) == Action.WORKFLOW
    assert host.ran == [f"systemctl stop {ENGINE}"]
    assert "the site leaves reboot_host to somebody" in host.records[1]["reason"]


def test_cap_of_zero_never_acts(tmp_path: Path) -> None:
    host = Host(tmp_path, daily_cap=0)

    host.log(LOST)

    assert host.ran == [f"systemctl stop {ENGINE}"]


def test_xids_are_judged_together_after_they_settled(tmp_path: Path) -> None:
    host = Host(tmp_path)
    first, second = parse_line(FAULT), parse_line(REBOOT)
    assert first is not None
    assert second is not None
    host.watch.take(first, "a", NOW)

    assert host.watch.settle(NOW + 9) is None
    host.watch.take(second, "b", NOW + 9)
    assert host.watch.waits(NOW + 9) == 10
    decision = host.watch.settle(NOW + 19)

    assert decision is not None
    assert decision.action == Action.REBOOT_HOST
    assert host.watch.waits(NOW + 20) is None


def test_unknown_code_is_named_and_nothing_stops(tmp_path: Path) -> None:
    host = Host(tmp_path)

    assert host.log(FAULT.replace("31,", "999,")) == Action.IGNORE
    assert "no bucket has XID 999" in host.records[-1]["reason"]
    assert host.ran == []


def test_figures_name_xids_actions_and_the_drained_host(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.log(DOUBLE)

    text = metrics.text(host.watch.state, NOW)

    assert 'tresor_gpu_xid_total{pci="0000:18:00",xid="48"} 1' in text
    assert "tresor_gpu_watcher_drained 1" in text
    assert "tresor_gpu_watcher_capped 0" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"automatic": ["format_disk"]}, "automatic: saw"),
        ({"daily_cap": 100}, "daily_cap: saw 100; write 0 to 24"),
        ({"daily_cap": True}, "write a number"),
        ({"extra": 1}, "expected the keys"),
    ],
)
def test_bad_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(configuration(tmp_path, **changes))


def test_damaged_state_stops_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configuration(tmp_path)))
    (tmp_path / "state.json").write_text('{"cursor": ""}')

    assert main([str(path)]) == 2
    assert "the watcher cannot start: the state lacks" in capsys.readouterr().err


def test_follower_gives_texts_with_their_cursors_and_the_end(tmp_path: Path) -> None:
    entries = tmp_path / "entries"
    rows = [
        {"__CURSOR": "a", "MESSAGE": LOST},
        {"__CURSOR": "b", "MESSAGE": list(b"\xff Xid")},
        {"MESSAGE": "without a cursor"},
    ]
    entries.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    follower = Follower(("sh", "-c", f"cat {entries}", "follow"))
    follower.start("")

    found: list[tuple[str, str]] = []
    while (some := follower.messages(5.0)) is not None:
        found += some

    assert found == [("a", LOST), ("b", "\ufffd Xid")]


def test_follower_goes_on_behind_the_cursor() -> None:
    follower = Follower(("echo",))
    follower.start("s=1;i=2")
    process = follower._process

    assert process is not None
    assert process.args == ["echo", "--lines=all", "--after-cursor=s=1;i=2"]
    follower.stop()


def test_follower_passes_over_what_was_before_when_its_place_is_lost() -> None:
    follower = Follower(("echo",))
    follower.start_now()
    process = follower._process

    assert process is not None
    assert process.args == ["echo", "--lines=0"]
    follower.stop()
