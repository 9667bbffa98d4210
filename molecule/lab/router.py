"""router1: joins the three networks and forwards everything, so that only the site's own rules
can stop a packet. What it needs beyond its addresses is in the files systemd-networkd reads."""

from __future__ import annotations

from lab.seed import Entry, File

_SYSCTL = """\
# Forward between all networks. No redirects: every path goes through this host.
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
"""


def files() -> list[Entry]:
    """Return what router1 has beyond every host's files."""
    return [File("etc/sysctl.d/50-router.conf", _SYSCTL)]
