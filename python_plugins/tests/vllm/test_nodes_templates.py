"""What the role vllm writes on the hosts of an instance that spans hosts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .test_templates import INSTANCES, content, render

SPANNING: dict[str, Any] = {
    "id": "big-gpu1",
    "host": "gpu1",
    "artefact": "big",
    "environment": "vllm",
    "port": 8100,
    "device": "cuda",
    "task": "chat",
    "served_names": ["big"],
    "args": {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
    "env": {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"},
    "nodes": {
        "hosts": ["gpu1", "gpu2"],
        "names": ["gpu1.site.example", "gpu2.site.example"],
        "addresses": ["192.0.2.31", "192.0.2.32"],
        "interfaces": ["ib0", "ib1"],
        "port": 29500,
    },
}


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the leading host, which has an engine of its own beside."""
    other = {**INSTANCES[1], "port": 8101}
    folder = tmp_path_factory.mktemp("leader")
    return render(folder, vllm_instances=[SPANNING, other], vllm_node_name="gpu1")


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("follower")
    bind = "198.51.100.32"
    return render(folder, vllm_followers=[SPANNING], vllm_node_name="gpu2", vllm_bind_address=bind)


def test_leader_serves_and_follower_does_not(leader: Path, follower: Path) -> None:
    leading = yaml.safe_load(content(leader, "big-gpu1.yaml"))
    following = yaml.safe_load(content(follower, "big-gpu1.yaml"))

    assert (leading["host"], leading["port"], leading["node-rank"]) == ("198.51.100.31", 8100, 0)
    assert "headless" not in leading
    assert following["headless"] is True and following["node-rank"] == 1
    assert {"host", "port"}.isdisjoint(following)
    for config in (leading, following):
        assert config["nnodes"] == 2
        assert (config["master-addr"], config["master-port"]) == ("192.0.2.31", 29501)
        assert config["distributed-executor-backend"] == "mp"
        assert config["tensor-parallel-size"] == 8 and config["pipeline-parallel-size"] == 2


def test_ranks_talk_on_their_own_interface_and_not_over_rdma(leader: Path, follower: Path) -> None:
    first, second = content(leader, "big-gpu1.env"), content(follower, "big-gpu1.env")

    for text, interface, address in ((first, "ib0", "192.0.2.31"), (second, "ib1", "192.0.2.32")):
        assert f'VLLM_HOST_IP="{address}"\n' in text
        assert f'GLOO_SOCKET_IFNAME="{interface}"\n' in text
        assert f'NCCL_SOCKET_IFNAME="={interface}"\n' in text
        assert 'NCCL_IB_DISABLE="1"\n' in text


def test_rdma_is_used_where_the_site_names_its_adapters(
    tmp_path: Path,
) -> None:
    named = {**SPANNING, "env": {"NCCL_IB_HCA": "mlx5_0,mlx5_1"}}

    text = content(render(tmp_path, vllm_instances=[named], vllm_node_name="gpu1"), "big-gpu1.env")

    assert 'NCCL_IB_HCA="mlx5_0,mlx5_1"' in text and "NCCL_IB_DISABLE" not in text


def test_parts_of_one_instance_agree_and_other_settings_do_not(
    leader: Path, follower: Path, tmp_path: Path
) -> None:
    def settings(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(content(folder, "big-gpu1.nodes.json"))
        return found

    one, two = settings(leader), settings(follower)
    assert one == {**two, "rank": 0} and two["rank"] == 1
    assert one["drain_seconds"] == 70 and one["port"] == 29500

    newer = {"vllm": {"version": "0.34.0"}}
    other = render(
        tmp_path, vllm_followers=[SPANNING], vllm_node_name="gpu2", vllm_environments=newer
    )
    assert settings(other)["digest"] != two["digest"]


def test_parts_are_watched_and_other_engines_of_the_host_are_not(leader: Path) -> None:
    text = (leader / "unit").read_text()

    start = "/engine_nodes.py /etc/tresor/vllm/%i.nodes.json /opt/tresor/vllm/current/bin/vllm "
    assert f"ExecStart=/usr/bin/python3 -I /usr/local/lib/tresor/vllm{start}" in text
    assert "StartLimitIntervalSec=0\n" in text
    paths = [entry["path"] for entry in yaml.safe_load((leader / "files.yml").read_text())]
    assert [p for p in paths if p.endswith(".nodes.json")] == [
        "/etc/tresor/vllm/big-gpu1.nodes.json"
    ]


def test_sandbox_lets_in_the_other_hosts_and_weights_are_verified_on_each(follower: Path) -> None:
    text = (follower / "unit").read_text()

    allowed = next(line for line in text.splitlines() if line.startswith("IPAddressAllow="))
    assert {"192.0.2.31", "192.0.2.32"} <= set(allowed.split())
    assert "char-nvidia* rw" in text
    assert json.loads((follower / "artefacts").read_text()) == ["big"]
    units = yaml.safe_load((follower / "units.yml").read_text())
    assert [unit["name"] for unit in units] == ["tresor-vllm@big-gpu1.service"]
    assert "/etc/tresor/vllm/big-gpu1.nodes.json" in units[0]["watch"]


def test_host_without_such_an_instance_is_as_it_was(tmp_path: Path) -> None:
    folder = render(tmp_path, vllm_instances=INSTANCES)

    text = (folder / "unit").read_text()
    assert "ExecStart=/opt/tresor/vllm/current/bin/vllm serve" in text
    assert "StartLimitIntervalSec=900\nStartLimitBurst=5\n" in text
    assert "nodes" not in (folder / "files.yml").read_text()
    assert "nodes" not in (folder / "units.yml").read_text()
