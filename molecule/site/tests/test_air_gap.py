"""Nothing leaves the site: tried from every host with a tool that configured nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from testinfra.host import Host

from lab.topology import SITE_HOSTS

SITE = tuple(host.name for host in SITE_HOSTS)
TARGETS = ("203.0.113.10", "2001:db8:53::10")

# All at once: every one of them must run into its timeout.
_TRY_ALL = """
for pair in %s; do
  (timeout 2 bash -c "exec 3<>/dev/tcp/$pair" 2>/dev/null && echo "$pair") &
done
for target in %s; do ping -c 1 -W 1 "$target" >/dev/null 2>&1 & done
wait
"""


@pytest.mark.parametrize("name", SITE)
def test_no_packet_reaches_the_internet(
    name: str, connect: Callable[[str], Host], internet_packets: Callable[[], int]
) -> None:
    host = connect(name)
    before = internet_packets()
    pairs = " ".join(f"{target}/{port}" for target in TARGETS for port in (53, 80, 443))
    opened = host.check_output(_TRY_ALL, pairs, " ".join(TARGETS))
    assert opened == "", f"{name} connected to {opened}"
    assert internet_packets() == before


@pytest.mark.parametrize("name", SITE)
def test_every_policy_is_drop(name: str, connect: Callable[[str], Host]) -> None:
    host = connect(name)
    for command in ("iptables-save", "ip6tables-save"):
        rules = host.check_output(f"{command} -t filter")
        for chain in ("INPUT", "FORWARD", "OUTPUT"):
            assert f":{chain} DROP" in rules


def test_hosts_do_not_reach_each_other(connect: Callable[[str], Host]) -> None:
    for source, target in (("gpu1", "198.51.100.32"), ("ops1", "198.51.100.31")):
        for port in (22, 8100):
            done = connect(source).run(f"timeout 2 bash -c 'exec 3<>/dev/tcp/{target}/{port}'")
            assert done.rc != 0, f"{source} connected to {target}:{port}"


def test_only_the_gateway_user_reaches_the_engines(connect: Callable[[str], Host]) -> None:
    gateway = connect("gateway1")
    probe = "timeout 3 bash -c 'exec 3<>/dev/tcp/198.51.100.31/8100'"
    assert gateway.run(f"runuser -u tresor-gateway -- {probe}").rc == 0
    assert gateway.run(f"runuser -u www-data -- {probe}").rc != 0
    assert gateway.run(probe).rc != 0


def test_dropped_packets_are_logged(connect: Callable[[str], Host]) -> None:
    host = connect("vector1")
    host.run("timeout 1 bash -c 'exec 3<>/dev/tcp/203.0.113.10/4711'")
    lines = host.check_output("cat /var/log/ulog/tresor-drops.json").splitlines()
    drops = [json.loads(line) for line in lines]
    mine = [drop for drop in drops if drop.get("dest_port") == 4711]
    assert mine, f"{len(drops)} drops, none to port 4711"
    assert {drop["dest_ip"] for drop in mine} == {"203.0.113.10"}
