"""Users ask all the time while the gateway reads its rules again and its workers are exchanged."""

from __future__ import annotations

import time
from collections.abc import Callable

from testinfra.host import Host

from lab.traffic import Outcome, Traffic, outage

UNIT = "tresor-gateway.service"
BACK_SECONDS = 30.0


def workers(gateway: Host) -> list[int]:
    """Return the pids of the workers that are ready."""
    return [int(pid) for pid in gateway.run("cat /run/tresor/gateway/workers.pid").stdout.split()]


def main_pid(gateway: Host) -> int:
    return int(gateway.check_output(f"systemctl show -P MainPID {UNIT}"))


def failed(outcomes: list[Outcome], since: float) -> list[Outcome]:
    return [o for o in outcomes if o.end >= since and not o.good]


def test_reload_fails_no_request_and_cuts_no_stream(
    traffic: Traffic, connect: Callable[[str], Host]
) -> None:
    gateway = connect("gateway1")
    before = (main_pid(gateway), workers(gateway))
    began = time.monotonic()
    for _ in range(5):
        gateway.run_expect([0], f"systemctl reload {UNIT}")
        traffic.wait_for_good(4, since=time.monotonic(), seconds=60)
    outcomes = traffic.stop()
    assert failed(outcomes, began) == []
    assert any(o.stream for o in outcomes if o.end >= began)
    assert (main_pid(gateway), workers(gateway)) == before


def test_workers_exchanged_one_by_one_fail_no_request_and_cut_no_stream(
    traffic: Traffic, connect: Callable[[str], Host]
) -> None:
    gateway = connect("gateway1")
    old, main = workers(gateway), main_pid(gateway)
    assert len(old) >= 2, "with one worker there is nobody who answers meanwhile"
    began = time.monotonic()
    for pid in old:
        gateway.run_expect([0], f"kill -TERM {pid}")
        deadline = time.monotonic() + BACK_SECONDS + 30
        # Its streams end first, then another one takes its place.
        while pid in (now := workers(gateway)) or len(now) < len(old):
            assert time.monotonic() < deadline, f"worker {pid} was not replaced: {now}"
            time.sleep(0.5)
        traffic.wait_for_good(4, since=time.monotonic(), seconds=60)
    outcomes = traffic.stop()
    assert failed(outcomes, began) == []
    assert any(o.stream for o in outcomes if o.end >= began)
    assert main_pid(gateway) == main
    assert not set(workers(gateway)) & set(old)


def test_restart_fails_no_request_and_cuts_no_stream(
    traffic: Traffic, connect: Callable[[str], Host]
) -> None:
    """What the role does when a watched file changes: who comes meanwhile waits."""
    gateway = connect("gateway1")
    main = main_pid(gateway)
    at = time.monotonic()
    gateway.run_expect([0], f"systemctl restart {UNIT}")
    traffic.wait_for_good(8, since=time.monotonic(), seconds=60)
    outcomes = traffic.stop()
    print(f"\nrestart: {outage(outcomes, at)}")
    assert main_pid(gateway) != main
    assert failed(outcomes, at) == []
    assert any(o.stream for o in outcomes if o.end >= at)
    # A worker that dies later must refuse, so that NGINX asks the other one at once.
    assert gateway.check_output(f"systemctl show -P NFileDescriptorStore {UNIT}") == "0"


def test_stopped_gateway_refuses(traffic: Traffic, connect: Callable[[str], Host]) -> None:
    """Sockets are kept for a restart only: nobody may wait for a service that does not come."""
    gateway = connect("gateway1")
    try:
        gateway.run_expect([0], f"systemctl stop {UNIT}")
        at = time.monotonic()
        time.sleep(3)
        outcomes = [o for o in traffic.stop() if o.start > at]
    finally:
        gateway.run_expect([0], f"systemctl start {UNIT}")
    assert outcomes
    assert {o.status for o in outcomes} <= {502, 503}
