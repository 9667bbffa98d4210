"""The role refuses adapters and speculative decoding that an engine would not start with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from python_plugins.tests.play_call import run_play

ROLE = Path(__file__).parents[3] / "roles" / "vllm"


ADAPTERS = "adapters and speculative decoding"
VOCABULARIES = "vocabularies that models need"


def preflight(
    folder: Path, *instances: dict[str, Any], what: str = ADAPTERS, **given_vars: Any
) -> tuple[int, str]:
    """Run the one check of the role's preflight on instances that have an id and this."""
    tasks = yaml.safe_load((ROLE / "tasks/preflight.yml").read_text(encoding="utf-8"))
    (check,) = [one for one in tasks if one["name"].endswith(what)]
    given = [
        {"id": f"chat-{place}", "served_names": [f"chat{place}"], **instance}
        for place, instance in enumerate(instances)
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"vllm_instances": given, **given_vars},
        "vars_files": [str(ROLE / "vars/main.yml")],
        "tasks": [check],
    }
    done = run_play(play, folder / "play.yml")
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_what_the_plan_writes_passes(tmp_path: Path) -> None:
    lora = [{"name": "claims", "artefact": "claims-adapter", "rank": 16}]
    speculative = {"method": "mtp", "tokens": 1}

    code, said = preflight(tmp_path, {}, {"lora": lora}, {"speculative": speculative})

    assert code == 0, said


def test_mistakes_are_told_for_each_instance(tmp_path: Path) -> None:
    code, said = preflight(
        tmp_path,
        {"lora": [{"name": "chat0", "artefact": "x", "rank": 8}]},
        {"lora": [{"name": "big", "artefact": "x", "rank": 513}]},
        {"speculative": {"method": "custom_class", "tokens": 1}},
        {"speculative": {"method": "mtp", "tokens": 17}},
    )

    assert code != 0
    for place, what in enumerate(("names chat0, chat0", "rank 513", "custom_class", ": 17")):
        message = said[said.index(f"Instance chat-{place} serves") :].split("models.yml")[0]
        assert what in message


def test_release_without_the_vocabulary_stops_before_a_unit_starts(tmp_path: Path) -> None:
    needs = {"vocabulary": "tiktoken"}
    whole = {"files": [{"path": "o200k_base.tiktoken"}, {"path": "cl100k_base.tiktoken"}]}
    half = {"files": [{"path": "o200k_base.tiktoken"}]}

    def run(vocabularies: dict[str, Any], *instances: dict[str, Any]) -> tuple[int, str]:
        return preflight(tmp_path, *instances, what=VOCABULARIES, vllm_vocabularies=vocabularies)

    assert run({"tiktoken": whole}, needs, {})[0] == 0
    assert run({}, {})[0] == 0
    code, said = run({}, needs)
    assert code != 0
    assert "Add the part binaries-tiktoken" in said
    code, said = run({"tiktoken": half}, needs)
    assert code != 0
    assert "(it has o200k_base.tiktoken)" in said
