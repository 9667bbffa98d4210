"""internet1: answers on the ports that leaking hosts try, and counts what the site sends it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.errors import lab_error
from lab.host import LabHost
from lab.hostfiles import FILES
from lab.seed import Entry, File, unit
from lab.topology import SITE

_LIST = ("-t", "raw", "-L", "PREROUTING", "-n", "-v", "-x")
_COUNTER = "from-the-site"
_LISTENERS_UNIT = """\
[Unit]
Description=Lab: the internet answers
After=network.target

[Service]
DynamicUser=yes
AmbientCapabilities=CAP_NET_BIND_SERVICE
ExecStart=/usr/bin/python3 /usr/local/lib/tresor-lab/internet_services.py
Restart=always

[Install]
WantedBy=multi-user.target
"""
_COUNTER_UNIT = """\
[Unit]
Description=Lab: count what the site sends to the internet
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/iptables-restore --noflush /etc/tresor-lab/counter.v4
ExecStart=/usr/sbin/ip6tables-restore --noflush /etc/tresor-lab/counter.v6

[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class Count:
    """Packets and bytes of one address family."""

    packets: int
    bytes: int


def counter_rules(prefix: str) -> str:
    """Return iptables-restore input: one rule that only counts, before anything else sees it."""
    rule = f"-A PREROUTING -s {prefix} -m comment --comment {_COUNTER}"
    return f"*raw\n{rule}\nCOMMIT\n"


def files() -> list[Entry]:
    """Return what internet1 has beyond every host's files."""
    program = (FILES / "internet_services.py").read_text()
    return [
        File("usr/local/lib/tresor-lab/internet_services.py", program),
        File("etc/tresor-lab/counter.v4", counter_rules(str(SITE.ipv4))),
        File("etc/tresor-lab/counter.v6", counter_rules(str(SITE.ipv6))),
        *unit("lab-internet.service", _LISTENERS_UNIT, wanted_by="multi-user.target"),
        *unit("lab-counter.service", _COUNTER_UNIT, wanted_by="sysinit.target"),
    ]


def parse_counter(listing: str) -> Count:
    """Read the counter's line of ``iptables -L -nvx``; LabError when the rule is not there."""
    for line in listing.splitlines():
        found = re.match(r"\s*(\d+)\s+(\d+)\s", line)
        if found and _COUNTER in line:
            return Count(int(found.group(1)), int(found.group(2)))
    raise lab_error(
        "counter on internet1",
        "its rule is not in the raw table",
        "See 'labctl exec internet1 systemctl status lab-counter', then labctl reboot internet1",
    )


def read_counter(host: LabHost) -> dict[str, Count]:
    """Return what internet1 has received from the site, per address family."""
    return {
        "ipv4": parse_counter(host.run(["iptables", *_LIST]).stdout),
        "ipv6": parse_counter(host.run(["ip6tables", *_LIST]).stdout),
    }


def reset_counter(host: LabHost) -> None:
    """Set the counters to zero."""
    for program in ("iptables", "ip6tables"):
        host.run([program, "-t", "raw", "-Z", "PREROUTING"])
