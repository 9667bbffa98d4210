"""What a release lacks is told before a host is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from python_plugins.tests.play_call import run_play

ROLE = Path(__file__).parents[3] / "roles" / "handover"
INSTANCE = {"environment": "vllm-cuda", "artefact": "big"}
RELEASE = {"id": "2026.11-1", "environments": {"vllm-cuda": {}}, "models": {"big": {}}}


def compare(folder: Path, instance: dict[str, Any], release: dict[str, Any]) -> tuple[int, str]:
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"tresor_plan": {"instances": [instance]}, "tresor_release": release},
        "tasks": [{"ansible.builtin.import_tasks": str(ROLE / "tasks/compare.yml")}],
    }
    done = run_play(play, folder / "play.yml")
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_release_without_a_vocabulary_is_refused_where_a_model_needs_it(tmp_path: Path) -> None:
    needs = {**INSTANCE, "vocabulary": "tiktoken"}
    code, said = compare(tmp_path, needs, RELEASE)
    assert code != 0
    assert "Release 2026.11-1 lacks vocabulary binaries-tiktoken" in said
    assert compare(tmp_path, INSTANCE, RELEASE)[0] == 0
    assert compare(tmp_path, needs, {**RELEASE, "binaries": {"tiktoken": {}}})[0] == 0
