"""The watchdog of engines in its sandbox: it sees them answer; the hang itself is a slow test."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

UNIT = "tresor-engine-watchdog.service"
PROGRAM = "/usr/local/lib/tresor-engine-watchdog"
CONFIG = "/etc/tresor/engine_watchdog/watchdog.json"
FIGURES = "/var/lib/tresor/node_exporter/engine_watchdog.prom"
ENGINES = {"gpu1": {"chat-gpu1"}, "gpu2": {"chat-gpu2", "embed-gpu2"}}

every_host = pytest.mark.parametrize("name", sorted(ENGINES))


def figure(text: str, metric: str) -> dict[str, float]:
    pattern = rf'^tresor_engine_watchdog_{metric}{{engine="([^"]+)"}} (\S+)$'
    return {engine: float(value) for engine, value in re.findall(pattern, text, re.MULTILINE)}


@every_host
def test_every_engine_of_the_host_is_looked_at_and_answers(
    connect: Callable[[str], Host], name: str
) -> None:
    host = connect(name)
    assert host.service(UNIT).is_running
    text = host.check_output(f"cat {FIGURES}")
    looked = figure(text, "last_look_timestamp_seconds")
    assert set(looked) == ENGINES[name]
    assert min(looked.values()) > time.time() - 120
    assert set(figure(text, "stopped").values()) == {0.0}
    state = json.loads(host.check_output("cat /var/lib/tresor/engine_watchdog/state.json"))
    for engine in ENGINES[name]:
        present = host.check_output(f"systemctl show -P InvocationID tresor-vllm@{engine}.service")
        assert state[engine]["answered"] == present, "its present start has answered"


@every_host
def test_figures_reach_prometheus_door(connect: Callable[[str], Host], name: str) -> None:
    host = connect(name)
    assert host.file(FIGURES).mode == 0o644, "the node exporter is another user"
    text = host.check_output("curl -s --max-time 20 http://127.0.0.1:9101/metrics")
    assert set(figure(text, "failures")) == ENGINES[name]


@every_host
def test_watchdog_is_closed_in(connect: Callable[[str], Host], name: str) -> None:
    done = connect(name).run(f"systemd-analyze security --threshold=20 --no-pager {UNIT}")
    assert done.rc == 0, done.stdout[-300:]
    assert connect(name).run(f"systemctl show -P CapabilityBoundingSet {UNIT}").stdout.strip() == ""


def test_configuration_that_would_restart_at_once_is_refused(
    connect: Callable[[str], Host],
) -> None:
    host = connect("gpu1")
    before = host.check_output(f"systemctl show -P MainPID {UNIT}")
    changed = '"failures": 1'
    host.check_output(
        f"sed 's/\"failures\": [0-9]*/{changed}/' {CONFIG} > /run/tresor-test-watchdog.json"
    )
    done = host.run(f"timeout 20 python3 -I {PROGRAM} /run/tresor-test-watchdog.json")
    host.check_output("rm /run/tresor-test-watchdog.json")
    assert done.rc == 2
    assert "failures: saw 1; write 2 to 100" in done.stderr
    assert host.check_output(f"systemctl show -P MainPID {UNIT}") == before
