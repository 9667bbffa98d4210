"""An endpoint shows this host's own metrics, each path once, and only what the matrix knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.filter.tresor_metric_problems import (
    DOCUMENTATION,
    tresor_metric_problems,
)

ROOT = Path(__file__).parents[3]
NAMES = ["gpu1.site.example", "198.51.100.31", "2001:db8:51::31"]


def flow(name: str, ports: str, to: str = "gpu1", proto: str = "tcp") -> dict[str, Any]:
    return {"name": name, "proto": proto, "ports": ports, "to": [{"name": to}]}


FLOWS = [flow("metrics", "9100"), flow("gateway-vllm", "8100:8199"), flow("store", "8443", "b")]


def problems(*sources: dict[str, Any], flows: list[dict[str, Any]] = FLOWS) -> list[str]:
    return tresor_metric_problems(sources, "gpu1", NAMES, flows, 9100)


@pytest.mark.parametrize(
    "source",
    [
        {"path": "/node", "url": "http://127.0.0.1:9101/metrics"},
        {"path": "/host", "url": "http://[::1]:9102/metrics"},
        {"path": "/gateway", "socket": "/run/tresor/gateway/admin.sock"},
        {"path": "/engine/chat-gpu1", "url": "https://gpu1.site.example:8100/metrics"},
        {"path": "/engine/chat-gpu1", "url": "https://198.51.100.31:8199/metrics"},
    ],
)
def test_sources_of_this_host_are_good(source: dict[str, Any]) -> None:
    assert problems(source) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "/x", "url": "https://gpu2.site.example:8100/metrics"}, "is not on this host"),
        ({"path": "/x", "url": "http://gpu1.site.example:8100/metrics"}, "without TLS"),
        ({"path": "/x", "url": "https://gpu1.site.example:9200/metrics"}, "no flow of the matrix"),
        ({"path": "/x", "url": "https://gpu1.site.example:8443/metrics"}, "no flow of the matrix"),
        ({"path": "/x", "url": "http://127.0.0.1/metrics"}, "write http://ADDRESS:PORT/PATH"),
        ({"path": "/x", "url": "http://127.0.0.1:99999/metrics"}, "write http://ADDRESS:PORT"),
        ({"path": "/x", "url": "http://127.0.0.1:9101/m;}\nserver{"}, "write http://ADDRESS"),
        ({"path": "/x", "url": "http://127.0.0.1.evil.example:9101/m"}, "is not on this host"),
        ({"path": "/x", "socket": "run/x.sock"}, "write an absolute path"),
        ({"path": "/x", "socket": "/run/x.sock;"}, "write an absolute path"),
        ({"path": "/x"}, "write path, and url or socket"),
        ({"path": "/x", "url": "http://127.0.0.1:1/", "socket": "/a"}, "url or socket"),
        ({"path": "/x", "url": "http://127.0.0.1:1/", "port": 1}, "url or socket"),
        ({"path": "node", "url": "http://127.0.0.1:1/"}, "path 'node'"),
        ({"path": "/a/../b", "url": "http://127.0.0.1:1/"}, "path '/a/../b'"),
        ({"path": "/a {", "url": "http://127.0.0.1:1/"}, "path '/a {'"),
    ],
)
def test_a_mistake_is_named(source: dict[str, Any], message: str) -> None:
    (problem,) = problems(source)
    assert message in problem


def test_two_sources_with_one_path_are_refused_with_both() -> None:
    (problem,) = problems(
        {"path": "/node", "url": "http://127.0.0.1:9101/metrics"},
        {"path": "/node", "socket": "/run/x.sock"},
    )
    assert "/node has two sources, http://127.0.0.1:9101/metrics and /run/x.sock" in problem


@pytest.mark.parametrize(
    "other", [[], [flow("m", "9100", "gpu2")], [flow("m", "9100", proto="udp")]]
)
def test_an_endpoint_that_no_flow_opens_is_refused(other: list[dict[str, Any]]) -> None:
    (problem,) = problems(flows=other)
    assert "no flow opens tcp 9100 to gpu1" in problem


def test_works_in_a_play(tmp_path: Path) -> None:
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.copy": {
                        "content": "{{ [] | tresor_metric_problems('a', [], [], 1) | to_json }}",
                        "dest": str(tmp_path / "out.json"),
                    }
                }
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,"]
    done = subprocess.run(
        [*command, str(tmp_path / "play.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no flow opens tcp 1 to a" in json.loads((tmp_path / "out.json").read_text())[0]


def test_documentation_names_the_arguments() -> None:
    documented = yaml.safe_load(DOCUMENTATION)
    assert documented["positional"].split(", ") == list(documented["options"])
