"""Services come back by themselves: after kill -9 of each, and after a reboot of their host."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

from lab.topology import SITE_HOSTS

SITE = tuple(host.name for host in SITE_HOSTS)
SECONDS = 60
# What must run where; a unit that is missing here is found by its name below.
EXPECTED = {
    "bastion": {"tresor-package-store"},
    "gateway1": {"tresor-gateway", "tresor-nginx"},
    "gpu1": {"tresor-vllm@chat-gpu1"},
    "gpu2": {"tresor-vllm@chat-gpu2", "tresor-vllm@embed-gpu2"},
    "vector1": {"tresor-milvus"},
    "ops1": {"tresor-prometheus", "tresor-alertmanager"},
}
EVERYWHERE = {"tresor-siem", "tresor-metrics", "tresor-exporter", "tresor-node-exporter"}


def running(host: Host) -> dict[str, int]:
    """Return the main process of each of our running services."""
    listing = host.check_output(
        "systemctl show 'tresor-*.service' --property=Id,MainPID,ActiveState --state=running"
    )
    found = {}
    for block in listing.split("\n\n"):
        entry = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if entry.get("ActiveState") == "active" and int(entry.get("MainPID", "0")) > 0:
            found[entry["Id"].removesuffix(".service")] = int(entry["MainPID"])
    return found


def wait_for(host: Host, wanted: set[str], gone: dict[str, int]) -> None:
    """Wait until all wanted units run as other processes than before."""
    deadline = time.monotonic() + SECONDS
    while True:
        now = running(host)
        late = sorted(unit for unit in wanted if now.get(unit) in (None, gone.get(unit)))
        if not late:
            return
        assert time.monotonic() < deadline, f"not back after {SECONDS} s: {late}"
        time.sleep(1)


@pytest.mark.parametrize("name", SITE)
def test_every_service_comes_back_after_kill_9(name: str, connect: Callable[[str], Host]) -> None:
    host = connect(name)
    before = running(host)
    assert EXPECTED[name] | EVERYWHERE <= set(before)
    for pid in before.values():
        host.check_output(f"kill -9 {pid}")
    wait_for(host, set(before), before)


@pytest.mark.parametrize("name", ["vector1", "ops1", "gateway1"])
def test_every_service_comes_back_after_a_reboot(
    name: str, connect: Callable[[str], Host], labctl: Callable[..., str]
) -> None:
    before = running(connect(name))
    labctl("reboot", name)
    wait_for(connect(name), set(before), {})
    state = connect(name).run("systemctl --failed --plain --no-legend 'tresor-*'").stdout
    assert state.strip() == "", state


def test_the_site_answers_afterwards(
    curl: Callable[..., tuple[int, object]], token: Callable[[str], str]
) -> None:
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 4,
    }
    deadline = time.monotonic() + 180
    while True:
        status, answer = curl("/v1/chat/completions", token=token("alice"), body=body)
        if status == 200:
            return
        assert time.monotonic() < deadline, f"{status} {answer}"
        time.sleep(3)
