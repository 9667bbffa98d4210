"""A site whose engines do not fit is refused before a host is touched, with figures and remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem

from .conftest import SCHEMAS, Spoil

MODELS, HOSTS = "group_vars/all/models.yml", "hosts.yml"
PLANNING, SLO = "group_vars/all/planning.yml", "group_vars/all/slo.yml"
Replace = Callable[..., None]


@pytest.fixture
def production(production: Path) -> Path:
    """Return the production example with its models written out, so that a test can spoil each."""
    shutil.copyfile(Path(__file__).parent / "data/models.yml", production / MODELS)
    return production


@pytest.fixture
def change(production: Path) -> Replace:
    """Replace a text, which must be there, in a file of the production example."""

    def replace(file: str, old: str, new: str, count: int = 1) -> None:
        path = production / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new, count), encoding="utf-8")

    return replace


@pytest.fixture
def found(production: Path) -> Callable[[], tuple[Problem, ...]]:
    def find() -> tuple[Problem, ...]:
        with pytest.raises(InventoryError) as caught:
            load_inventory(production, SCHEMAS)
        return caught.value.problems

    return find


Find = Callable[[], tuple[Problem, ...]]


def test_model_that_does_not_fit_is_told_with_host_figures_and_remedy(
    change: Replace, found: Find
) -> None:
    change(MODELS, "openai/gpt-oss-120b", "meta-llama/Llama-3.1-405B")
    change(MODELS, "quantization: mxfp4", "quantization: none")
    problem = found()[0]

    assert problem.file == MODELS
    assert problem.key == "tresor_models[0].placement[0]"
    assert problem.seen == '"chat-large on gpu1"'
    assert "does not fit on GPUs 0, 1, 2, 3 (per GPU: weights 189.0" in problem.wrong
    assert "weights_oom_at_load" in problem.wrong
    assert problem.fix.startswith("use a checkpoint in ")


def test_model_that_nobody_knows_is_refused_with_its_name(change: Replace, found: Find) -> None:
    change(MODELS, "openai/gpt-oss-120b", "acme/secret-7b")

    assert "acme/secret-7b" in found()[0].wrong


def test_config_of_a_model_may_stand_in_the_inventory(production: Path, change: Replace) -> None:
    config = (
        "{architectures: [LlamaForCausalLM], model_type: llama, hidden_size: 4096, "
        "num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8, "
        "intermediate_size: 14336, vocab_size: 128256, max_position_embeddings: 131072, "
        "tie_word_embeddings: false, torch_dtype: bfloat16}"
    )
    change(MODELS, "architecture: meta-llama/Llama-3.1-8B", f"architecture: {config}")

    item = load_inventory(production, SCHEMAS).capacity.find("small-gpu3")

    assert item.prediction.weights_gib == pytest.approx(8.49, abs=0.1)


def test_host_whose_gpus_are_not_stated_runs_no_engine_on_them(
    production: Path, found: Find
) -> None:
    path = production / HOSTS
    text = path.read_text(encoding="utf-8")
    start = text.index("          tresor_hardware:", text.index("gpu3:"))
    end = text.index("        gpu4:")
    path.write_text(text[:start] + text[end:], encoding="utf-8")

    assert {problem.key for problem in found()} == {
        "tresor_models[1].placement[0]",
        "tresor_models[2].placement[0]",
    }
    assert "the host's GPUs are not stated" in found()[0].wrong


def test_loss_that_the_service_level_rules_out_is_told(change: Replace, found: Find) -> None:
    change(MODELS, "hosts: [gpu3, gpu4], port: 8100", "hosts: [gpu3], port: 8100")
    (problem,) = found()

    assert "would have 0 of the 1 instances it needs without host gpu3" in problem.wrong
    assert problem.fix == "place another instance on another host"


def test_planner_chooses_gpus_and_their_number(production: Path, change: Replace) -> None:
    change(MODELS, "{tensor: 4, pipeline: 1}", "{tensor: auto, pipeline: 1}")
    change(MODELS, "gpus: [0, 1, 2, 3]", "gpus: auto")
    change(MODELS, "gpus: [4, 5, 6, 7]", "gpus: auto")

    placed = load_inventory(production, SCHEMAS).capacity

    assert (placed.find("large-a-gpu1").tensor, placed.find("large-a-gpu1").gpus) == (2, (0, 1))
    assert placed.find("large-b-gpu1").gpus == (2, 3)


def test_replicas_are_fewer_than_the_hosts(production: Path, change: Replace) -> None:
    change(
        MODELS,
        "hosts: [gpu3, gpu4], port: 8101, gpus: [1]",
        "hosts: [gpu3, gpu4], port: 8101, gpus: auto, replicas: 1",
    )
    change(SLO, "survive_loss_of: host", "survive_loss_of: none")

    placed = load_inventory(production, SCHEMAS).capacity.placement.placed

    assert [item.id for item in placed if item.wanted.name == "embed"] == ["embed-gpu3"]


@pytest.mark.parametrize(
    ("file", "edit", "told"),
    [
        (
            HOSTS,
            ("gpu: H100 SXM 80GB", "gpu: H100 SXM 90GB"),
            ("tresor_hardware.gpu", "H100 SXM 90GB"),
        ),
        (HOSTS, ("gpus: 8", "gpus: 0"), ("tresor_hardware.gpus", "is below 1")),
        (HOSTS, ("gpu: L40S 48GB\n            ", ""), ("tresor_hardware", "gpu and gpus")),
        (HOSTS, ("rack_units: 8", "rack_unit: 8"), ("tresor_hardware.rack_unit", "unknown key")),
        (
            HOSTS,
            ("gpus: 8\n", "gpus: 8\n            nvlink_domain: 16\n"),
            ("nvlink_domain", "has 8"),
        ),
        (
            HOSTS,
            ("tresor_hardware:", "tresor_gpus: 4\n          tresor_hardware:"),
            ("gpus", "says 4"),
        ),
        (MODELS, ("gpus: [0]", "gpus: all"), ("placement[0].gpus", "wrong form")),
        (
            MODELS,
            ("tensor: 1,", "tensor: auto,"),
            ("placement[0].gpus", "parallelism.tensor is auto"),
        ),
        (MODELS, ("gpus: [0]", "gpus: [0], replicas: 1"), ("replicas", "belongs to gpus: auto")),
        (MODELS, ("gpus: [0]", "gpus: auto, replicas: 3"), ("replicas", "more than the 2 hosts")),
        (
            MODELS,
            ("gpus: [1]", "gpus: [0]"),
            ("placement[0].gpus", "belongs to the model chat-small"),
        ),
        (MODELS, ("openai/gpt-oss-120b", "/srv/models/x"), ("architecture", "wrong form")),
        (PLANNING, ("model: chat-large", "model: chat-big"), ("load[0].model", "unknown model")),
        (PLANNING, ("input_tokens: 1500", "input_tokens: 200000"), ("input_tokens", "131072")),
        (
            PLANNING,
            ("think_seconds: 20", "output_tokens_p95: 9"),
            ("output_tokens_p95", "less than"),
        ),
        (PLANNING, ("H200 SXM 141GB", "H900"), ("alternatives.gpus[0]", "H900")),
        (PLANNING, ("to: chat-small", "to: chat-tiny"), ("routing[0].to", "unknown model")),
        (PLANNING, ("model_revisions: 3", "model_revisions: 1"), ("model_revisions", "is below 2")),
        (
            SLO,
            ("survive_loss_of: host", "survive_loss_of: site"),
            ("survive_loss_of", "not one of"),
        ),
    ],
)
def test_mistake_is_told_at_its_place(
    change: Replace, found: Find, file: str, edit: tuple[str, str], told: tuple[str, str]
) -> None:
    change(file, *edit, -1 if file == HOSTS else 1)
    key, wrong = told
    problems = [problem for problem in found() if problem.key.endswith(key)]

    assert problems, [str(problem) for problem in found()]
    assert problems[0].file == file
    assert wrong in problems[0].wrong
    assert problems[0].fix


def test_gpu_beyond_the_stated_hardware_is_told(change: Replace, found: Find) -> None:
    change(HOSTS, "gpus: 2", "gpus: 1", -1)
    (problem,) = [one for one in found() if "has 1 GPUs" in one.wrong][:1]

    assert (problem.key, problem.fix) == (
        "tresor_models[2].placement[0].gpus",
        "write indexes below 1",
    )


def test_two_models_share_a_gpu_when_both_state_their_share(
    production: Path, change: Replace
) -> None:
    change(MODELS, "gpus: [1]", "gpus: [0]")
    change(
        MODELS,
        "gpu_memory_utilization: 0.92\n        max_num_seqs: 128",
        "gpu_memory_utilization: 0.7\n        max_num_seqs: 128",
    )
    change(MODELS, "gpu_memory_utilization: 0.5", "gpu_memory_utilization: 0.2")

    capacity = load_inventory(production, SCHEMAS).capacity

    assert capacity.find("small-gpu3").gpus == capacity.find("embed-gpu3").gpus == (0,)


def test_engine_on_the_cpu_is_held_against_the_hosts_memory(
    spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    spoil(MODELS, 'VLLM_CPU_KVCACHE_SPACE: "1"', 'VLLM_CPU_KVCACHE_SPACE: "10"')

    told = problems()

    assert {problem.key for problem in told} == {
        "tresor_models[0].placement[0]",
        "tresor_models[1].placement[0]",
    }
    assert "GiB of memory together" in told[0].wrong


def test_lab_is_predicted_as_its_engine_was_seen(lab: Path) -> None:
    item = load_inventory(lab, SCHEMAS).capacity.find("chat-gpu1")

    assert (item.prediction.kv_tokens, item.prediction.max_concurrency) == (46592, 22.75)


def test_planning_belongs_to_the_digest(production: Path, change: Replace) -> None:
    before = load_inventory(production, SCHEMAS).sha256
    change(PLANNING, "model_revisions: 3", "model_revisions: 2")

    assert load_inventory(production, SCHEMAS).sha256 != before
