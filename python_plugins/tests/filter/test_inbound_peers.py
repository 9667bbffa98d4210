"""Only who is let in on an engine's port is a client of the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.filter.tresor_inbound_peers import DOCUMENTATION, tresor_inbound_peers

ROOT = Path(__file__).parents[3]
GATEWAY = "198.51.100.20/32"


def rule(ports: str, peer: str = GATEWAY, **changes: Any) -> dict[str, Any]:
    return {
        "direction": "in",
        "flow": "gateway-vllm",
        "peer": peer,
        "ports": ports,
        "proto": "tcp",
        "user": None,
    } | changes


@pytest.mark.parametrize("ports", ["8100", "8100:8199", "8000:8100", "8100:8100"])
def test_peer_of_a_rule_that_covers_the_port_is_in(ports: str) -> None:
    assert tresor_inbound_peers([rule(ports)], [8100]) == [GATEWAY]


@pytest.mark.parametrize(
    "other",
    [
        rule("22"),
        rule("810"),
        rule("8101:8199"),
        rule("8100", direction="out"),
        rule("8100", proto="udp"),
    ],
)
def test_peer_of_another_rule_stays_out(other: dict[str, Any]) -> None:
    assert tresor_inbound_peers([other], [8100]) == []


def test_each_peer_appears_once_and_one_covered_port_is_enough() -> None:
    rules = [rule("8100"), rule("22", "198.51.100.10/32"), rule("8101"), rule("8101", "::/0")]
    assert tresor_inbound_peers(rules, [8100, 8101]) == [GATEWAY, "::/0"]


def test_host_without_engines_has_no_clients() -> None:
    assert tresor_inbound_peers([rule("8100:8199")], []) == []


def test_ansible_doc_reads_the_documentation() -> None:
    program = Path(sys.executable).with_name("ansible-doc")
    done = subprocess.run(
        [program, "--json", "-t", "filter", "tresor_inbound_peers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = json.loads(done.stdout)["tresor_inbound_peers"]["doc"]
    assert set(shown["options"]) == set(yaml.safe_load(DOCUMENTATION)["options"])
