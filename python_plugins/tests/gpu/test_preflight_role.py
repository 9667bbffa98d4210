"""The role on this machine: CPU hosts are left alone, one that lacks its GPUs is refused."""

from __future__ import annotations

from pathlib import Path

from python_plugins.tests.play_call import run_play

ABSURD = {"card": "H100 SXM 80GB", "count": 64, "domains": [list(range(64))], "total_gib": 79.18}
"""More GPUs than any machine has that runs these tests."""


def test_only_a_host_with_gpus_in_the_plan_is_looked_at(tmp_path: Path) -> None:
    role = {"name": "gpu_preflight"}
    done = run_play(
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {"name": "CPU", "ansible.builtin.include_role": role},
                {"ansible.builtin.debug": {"msg": "the CPU host passed"}},
                {
                    "name": "cuda",
                    "ansible.builtin.include_role": role,
                    "vars": {"gpu_preflight_planned": ABSURD},
                },
            ],
        },
        tmp_path / "play.yml",
    )

    assert done.returncode != 0
    assert "the CPU host passed" in done.stdout
    said = done.stdout + done.stderr
    assert "localhost is not the host that was planned; nothing was changed:" in said
    assert "GPUs on the PCI bus: planned 64, found" in said
