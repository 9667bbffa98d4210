"""tresor_site.siem leads to a collector that hosts can reach, or the inventory is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tresor.inventory.problems import Problem

from .conftest import Spoil

SITE, FLOWS = "group_vars/all/site.yml", "group_vars/all/flows.yml"
NO_FLOW = "no flow of the user tresor-siem leads to external:siem, tcp"
FLOW = '    to: ["external:siem"]\n    proto: tcp\n    ports: "2514"\n    user: tresor-siem'

# file, text, its replacement, key, what the message says, remedy
CASES = {
    "unknown-external": (
        SITE, "    external: siem\n", "    external: siam\n",
        "tresor_site.siem.external", "unknown external", "did you mean 'siem'?",
    ),
    "missing-ca": (
        SITE, "    ca_file: /etc/tresor/trust/company-ca.pem\n    permitted_peer",
        "    permitted_peer",
        "tresor_site.siem.ca_file", "missing key", "write ca_file",
    ),
    "relative-ca": (
        SITE, "    ca_file: /etc/tresor/trust/company-ca.pem\n    permitted_peer",
        "    ca_file: trust/company-ca.pem\n    permitted_peer",
        "tresor_site.siem.ca_file", "wrong form", "the absolute path on the bastion",
    ),
    "peer-is-no-name": (
        SITE, "permitted_peer: siem.company.example", 'permitted_peer: "*"',
        "tresor_site.siem.permitted_peer", "wrong form", "the DNS name",
    ),
    "no-port": (
        SITE, "      port: 2514\n", "",
        "tresor_site.externals.siem", "has no port", "write its port, such as 2514",
    ),
    "port-beside-the-flow": (
        SITE, "port: 2514", "port: 6514",
        "tresor_site.siem.external", f"{NO_FLOW} 6514", "add it to flows.yml",
    ),
    "flow-of-everybody": (
        FLOWS, FLOW, FLOW.replace("    user: tresor-siem", "    user: root"),
        "tresor_site.siem.external", f"{NO_FLOW} 2514", "user tresor-siem",
    ),
    "flow-of-another-protocol": (
        FLOWS, FLOW, FLOW.replace("proto: tcp", "proto: udp"),
        "tresor_site.siem.external", NO_FLOW, "add it to flows.yml",
    ),
    "flow-to-another": (
        FLOWS, FLOW, FLOW.replace("external:siem", "external:ntp"),
        "tresor_site.siem.external", NO_FLOW, "add it to flows.yml",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_collector_out_of_reach_is_told(
    case: tuple[str, ...], spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    file, old, new, key, wrong, fix = case
    spoil(file, old, new)

    found = [problem for problem in problems() if problem.key == key and wrong in problem.wrong]

    assert found, "\n".join(map(str, problems()))
    assert found[0].file == SITE
    assert fix in found[0].fix


def test_range_of_ports_may_hold_the_collectors(
    spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    spoil(FLOWS, FLOW, FLOW.replace('"2514"', '"2000:2513"'))
    assert [p.key for p in problems() if NO_FLOW in p.wrong] == ["tresor_site.siem.external"]
    spoil(FLOWS, '"2000:2513"', '"2000:2514"')
    # One more mistake, for there to be problems at all.
    spoil(SITE, "  level: lab\n", "")
    assert [p.key for p in problems()] == ["tresor_site.level"]
