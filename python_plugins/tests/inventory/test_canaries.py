"""A canary in models.yml: what makes no sense is told, and what does becomes a plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem
from tresor.plan.resolve import check_plan, resolve

from .conftest import SCHEMAS

MODELS, GUARDRAILS = "group_vars/all/models.yml", "group_vars/all/guardrails.yml"
PLANNING, SLO = "group_vars/all/planning.yml", "group_vars/all/slo.yml"
BASE, NAME = "smollm2-135m-instruct", "smollm2-135m-next"
CANARY = f"""\
  - name: {NAME}
    artefact: smollm2-135m-next
    architecture: HuggingFaceTB/SmolLM2-135M
    task: chat
    aliases: []
    context_tokens: 2048
    quantization: none
    parallelism: {{tensor: 1, pipeline: 1}}
    engine:
      environment: vllm-cpu
      device: cpu
      args: {{max_num_seqs: 8}}
      env: {{VLLM_CPU_KVCACHE_SPACE: "1"}}
    canary: {{of: {BASE}, percent: 10}}
    placement:
      - {{instance: next, groups: [], hosts: [gpu1], port: 8102}}
"""
OTHER = (
    CANARY.replace(NAME, "smollm2-135m-other").replace("next,", "other,").replace("8102", "8103")
)
EMBEDDING = (
    CANARY.replace("task: chat", "task: embedding").replace(BASE, "all-minilm-l6-v2")
).replace("2048", "256")
OF, PERCENT = "tresor_models[2].canary.of", "tresor_models[2].canary.percent"

# entries after the lab's two, key, what the message says, value seen, remedy
CASES = {
    "unknown": (
        CANARY.replace(f"of: {BASE}", "of: smollm2-135m-instrukt"),
        OF,
        "unknown model",
        '"smollm2-135m-instrukt"',
        f"write one of {BASE} (did you mean '{BASE}'?)",
    ),
    "alias": (
        CANARY.replace(f"of: {BASE}", "of: small"),
        OF,
        f"is another name of the model {BASE}",
        '"small"',
        f"write {BASE}",
    ),
    "itself": (
        CANARY.replace(f"of: {BASE}", f"of: {NAME}"),
        OF,
        "is the model itself",
        f'"{NAME}"',
        "name the model whose users try this one",
    ),
    "of-a-canary": (
        OTHER.replace(f"of: {BASE}", f"of: {NAME}") + CANARY,
        OF,
        "is a canary itself",
        f'"{NAME}"',
        f"write {BASE}",
    ),
    "of-each-other": (
        OTHER.replace(f"of: {BASE}", f"of: {NAME}")
        + CANARY.replace(f"of: {BASE}", "of: smollm2-135m-other"),
        OF,
        "is a canary itself",
        f'"{NAME}"',
        "name a model that is none",
    ),
    "other-task": (
        CANARY.replace(f"of: {BASE}", "of: all-minilm-l6-v2"),
        OF,
        "has the task embedding, the canary chat",
        '"all-minilm-l6-v2"',
        f"write one of {BASE}",
    ),
    "vectors-of-two-artefacts": (
        EMBEDDING,
        OF,
        "vectors of two artefacts cannot be compared",
        '"all-minilm-l6-v2"',
        "remove canary, and build the index anew",
    ),
    "no-share": (
        CANARY.replace("percent: 10", "percent: 0"),
        PERCENT,
        "is below 1",
        "0",
        "1 to 50 percent",
    ),
    "half-and-more": (
        CANARY.replace("percent: 10", "percent: 51"),
        PERCENT,
        "is above 50",
        "51",
        "1 to 50 percent",
    ),
    "two-above-one-half": (
        OTHER.replace("percent: 10", "percent: 30") + CANARY.replace("percent: 10", "percent: 21"),
        "tresor_models[3].canary.percent",
        f"the canaries of {BASE} get 51 % together",
        "21",
        "write 20 or less",
    ),
    "nothing-left": (
        OTHER.replace("percent: 10", "percent: 50") + CANARY,
        "tresor_models[3].canary.percent",
        "get 60 % together",
        "10",
        "remove this canary, or lower another",
    ),
    "shorter-context": (
        CANARY.replace("context_tokens: 2048", "context_tokens: 1024"),
        "tresor_models[2].context_tokens",
        f"is less than {BASE} has (2048)",
        "1024",
        "write 2048 or more",
    ),
    "another-name": (
        CANARY.replace("aliases: []", "aliases: [next]"),
        "tresor_models[2].aliases",
        "a canary has no other names",
        '["next"]',
        "write []",
    ),
    "adapters": (
        CANARY.replace(
            "    canary:", "    lora: [{name: claims, artefact: claims, rank: 8}]\n    canary:"
        ),
        "tresor_models[2].lora",
        "a canary brings no adapters",
        "claims",
        "adapters of the other model stay with that model's engines",
    ),
    "unknown-key": (
        CANARY.replace("percent: 10", "percent: 10, users: [anna]"),
        "tresor_models[2].canary.users",
        "unknown key",
        "users",
        "write one of of, percent",
    ),
}


@pytest.fixture
def add(lab: Path) -> Callable[[str], None]:
    """Write entries behind those of models.yml."""

    def write(entries: str) -> None:
        with (lab / MODELS).open("a", encoding="utf-8") as stream:
            stream.write(entries)

    return write


def change(lab: Path, file: str, old: str, new: str) -> None:
    text = (lab / file).read_text(encoding="utf-8")
    assert old in text
    (lab / file).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mistake_is_told_with_its_place_and_remedy(
    case: str, add: Callable[[str], None], problems: Callable[[], tuple[Problem, ...]]
) -> None:
    entries, key, wrong, seen, fix = CASES[case]
    add(entries)

    found = [problem for problem in problems() if problem.key == key and wrong in problem.wrong]

    assert found, "\n".join(map(str, problems()))
    assert (found[0].file, found[0].line > 40) == (MODELS, True)
    assert seen in found[0].seen
    assert fix in found[0].fix
    assert re.fullmatch(r"[^:]+:\d+: .+: .+; saw .+; .+", str(found[0]))


def test_adapter_has_no_canary(
    lab: Path, add: Callable[[str], None], problems: Callable[[], tuple[Problem, ...]]
) -> None:
    change(
        lab, MODELS, "    recovery:", "    lora: [{name: a1, artefact: a1, rank: 8}]\n    recovery:"
    )
    add(CANARY.replace(f"of: {BASE}", "of: a1"))

    assert [(p.key, p.wrong) for p in problems()] == [
        (OF, f"is an adapter of {BASE}, and adapters have no canary")
    ]


@pytest.mark.parametrize("option", ["tool_call_parser", "reasoning_parser"])
def test_canary_understands_what_its_model_does(
    option: str,
    lab: Path,
    add: Callable[[str], None],
    problems: Callable[[], tuple[Problem, ...]],
) -> None:
    change(lab, MODELS, "      args:\n", f"      args:\n        {option}: hermes\n")
    add(CANARY)

    told = {problem.key: problem for problem in problems()}

    problem = told[f"tresor_models[2].engine.args.{option}"]
    assert problem.wrong == f"missing here, and {BASE} has it: some of its requests would go wrong"
    assert problem.fix == f"write {option}, as the engine needs it"


@pytest.mark.parametrize("judge", ["small", BASE])
def test_verdicts_do_not_depend_on_a_canary(
    judge: str,
    lab: Path,
    add: Callable[[str], None],
    problems: Callable[[], tuple[Problem, ...]],
) -> None:
    entry = f"  classifiers: [{{model: {judge}, kind: llama-guard}}]\n  restore: true"
    change(lab, GUARDRAILS, "  restore: true", entry)
    add(CANARY)

    assert [(p.key, p.wrong) for p in problems()] == [
        (OF, f"{BASE} is a classifier of guardrails.yml, whose verdicts must not vary")
    ]


def test_load_is_that_of_the_model_which_must_bear_all_of_it(
    lab: Path, add: Callable[[str], None], problems: Callable[[], tuple[Problem, ...]]
) -> None:
    load = f"{{model: {NAME}, users: 1, input_tokens: 8, output_tokens: 8}}"
    (lab / PLANNING).write_text(f"---\ntresor_planning:\n  load: [{load}]\n", encoding="utf-8")
    add(CANARY)

    told = [problem for problem in problems() if problem.key == "tresor_planning.load[0].model"]

    assert [problem.fix for problem in told] == [f"write {BASE}, or remove the entry"]


def test_canary_needs_no_spare_but_the_model_does(lab: Path, add: Callable[[str], None]) -> None:
    """Without the loss of a canary in mind, a site could not try one on a single engine."""
    path = lab / SLO
    text = re.sub(r"  survive_loss_of: \w+\n", "", path.read_text(encoding="utf-8"))
    path.write_text(text.rstrip() + "\n  survive_loss_of: host\n", encoding="utf-8")
    change(lab, MODELS, "hosts: [gpu2], port: 8101", "hosts: [gpu1, gpu2], port: 8101")
    add(CANARY)

    load_inventory(lab, SCHEMAS)

    change(lab, MODELS, f"    canary: {{of: {BASE}, percent: 10}}\n", "")
    with pytest.raises(InventoryError, match=f"{NAME} would have 0 of the 1 instances"):
        load_inventory(lab, SCHEMAS)


def plan_of(folder: Path) -> dict[str, Any]:
    plan = resolve(load_inventory(folder, SCHEMAS))
    check_plan(plan, SCHEMAS)
    return dict(plan["tresor_plan"])


def test_plan_gives_every_engine_its_share(lab: Path, add: Callable[[str], None]) -> None:
    add(CANARY)

    plan = plan_of(lab)
    models = {model["name"]: model for model in plan["models"]}

    assert models[BASE]["instances"] == ["chat-gpu1", "chat-gpu2"]
    assert models[BASE]["canaries"] == [{"model": NAME, "percent": 10}]
    assert models[BASE]["weights"] == {"chat-gpu1": 1000, "chat-gpu2": 1000, "next-gpu1": 222}
    assert models[NAME]["canary_of"] == BASE
    assert models[NAME]["instances"] == ["next-gpu1"]
    assert not {"weights", "canaries", "canary_of"} & set(models["all-minilm-l6-v2"])


def test_canary_is_no_fallback_and_auto_never_chooses_it(production: Path) -> None:
    path = production / MODELS
    small = "catalogue: llama-3.1-8b\n    checkpoint: fp8\n    artefact: chat-small-8b-fp8"
    hosts = (production / "hosts.yml").read_text(encoding="utf-8")
    (production / "hosts.yml").write_text(hosts.replace("gpus: 2\n", "gpus: 3\n"))
    change(production, MODELS, small, "catalogue: gpt-oss-20b\n    artefact: chat-small-20b")
    before = {model["name"]: model for model in plan_of(production)["models"]}
    assert before["chat-small"]["fallback"] == "chat-large"
    text = path.read_text(encoding="utf-8")
    entry = text[text.index("  - name: chat-small\n") : text.index("  - name: embed-small\n")]
    tried = (
        entry.replace("chat-small\n", "chat-small-next\n")
        .replace("aliases: [fast]", "aliases: []\n    canary: {of: chat-small, percent: 5}")
        .replace("instance: small,", "instance: small-next,")
        .replace("port: 8100, gpus: [0]", "port: 8102, gpus: [2]")
    )
    # First in the file, where the first model of an entry of the catalogue is looked for.
    path.write_text(text.replace("tresor_models:\n", f"tresor_models:\n{tried}"), encoding="utf-8")

    plan = plan_of(production)
    models = {model["name"]: model for model in plan["models"]}

    assert "fallback" not in models["chat-small-next"]
    assert models["chat-small"]["fallback"] == "chat-large"
    assert models["chat-large"]["fallback"] == before["chat-large"]["fallback"] == "chat-small"
    named = [r["default"] for r in plan["routes"]]
    named += [rule["model"] for route in plan["routes"] for rule in route["rules"]]
    assert named
    assert "chat-small-next" not in named
