"""A wrong entry is refused with the entry, the key, the value, and what to do."""

from __future__ import annotations

import pytest

from tresor.catalogue.entry import read_entry

from .conftest import SCHEMA, Copy

ARGS = "  args:\n"


@pytest.mark.parametrize(
    ("name", "edit", "key", "wrong"),
    [
        (
            "qwen3-coder-480b-a35b",
            ("nodes: 2", "nodes: 3"),
            "layouts[1].nodes",
            "3 hosts cannot share 16 ranks equally",
        ),
        (
            "qwen3-8b",
            ("tool_call_parser: hermes", "tool_call_parser: hermess"),
            "engine.args.tool_call_parser",
            "has a value that does not fit",
        ),
        (
            "qwen3-8b",
            ("reasoning_parser: qwen3", "reasoning_parser: qwen9"),
            "engine.args.reasoning_parser",
            "has a value that does not fit",
        ),
        (
            "qwen3-8b",
            (ARGS, f"{ARGS}    trust_remote_code: true\n"),
            "engine.args.trust_remote_code",
            "is refused: it runs code from the model's directory",
        ),
        (
            "qwen3-8b",
            (ARGS, f"{ARGS}    enable_sleep_mode: true\n"),
            "engine.args.enable_sleep_mode",
            "is refused: its endpoints exist in development mode only",
        ),
        (
            "qwen3-8b",
            ("engine:\n", 'engine:\n  env: {VLLM_SERVER_DEV_MODE: "1"}\n'),
            "engine.env.VLLM_SERVER_DEV_MODE",
            "is not among the variables",
        ),
        (
            "qwen3-8b",
            (ARGS, f"{ARGS}    swap_space: 4\n"),
            "engine.args.swap_space",
            "is not among the vLLM options",
        ),
        (
            "qwen3-8b",
            ("    enable_auto_tool_choice: true\n", ""),
            "engine.args.tool_call_parser",
            "is never asked without enable_auto_tool_choice",
        ),
        (
            "qwen3-8b",
            ("    tool_call_parser: hermes\n", ""),
            "engine.args.enable_auto_tool_choice",
            "vLLM does not start",
        ),
        (
            "qwen3.5-9b",
            (ARGS, f"{ARGS}    limit_mm_per_prompt: {{image: 1}}\n"),
            "engine.args.limit_mm_per_prompt",
            "contradicts language_model_only",
        ),
        (
            "qwen3-vl-8b",
            ("{image: 2, video: 0}", "{picture: 2}"),
            "engine.args.limit_mm_per_prompt",
            "has a value that does not fit",
        ),
        (
            "qwen3-8b",
            (ARGS, f"{ARGS}    max_num_batched_tokens: 64\n"),
            "engine.args.max_num_batched_tokens",
            "is less than max_num_seqs (128)",
        ),
        (
            "bge-m3",
            (ARGS, f"{ARGS}    reasoning_parser: qwen3\n"),
            "engine.args.reasoning_parser",
            "the task is embedding",
        ),
        (
            "qwen3-8b",
            ("quantization: awq", "quantization: bitsandbytes"),
            "checkpoints[2].quantization",
            "is no quantization",
        ),
        (
            "qwen3-8b",
            ("checkpoint: fp8", "checkpoint: int8"),
            "layouts[0].checkpoint",
            "is none of",
        ),
        ("qwen3-8b", ("gpu: L40S 48GB", "gpu: L41S"), "layouts[0].gpu", "is not in the catalogue"),
        (
            "qwen3-8b",
            ("fallback: qwen3-30b-a3b-instruct-2507", "fallback: qwen3-8b"),
            "gateway.fallback",
            "is the entry itself",
        ),
        (
            "qwen3-8b",
            ("fallback: qwen3-30b-a3b-instruct-2507", "fallback: qwen2-72b"),
            "gateway.fallback",
            "is no entry of the catalogue",
        ),
        ("qwen3-8b", ("max_rank: 64", "max_rank: 65"), "lora.max_rank", "is no rank"),
        (
            "gpt-oss-120b",
            ("method: eagle3", "method: custom_class"),
            "speculative.method",
            "is refused: it loads code by name",
        ),
        (
            "gpt-oss-120b",
            ("method: eagle3", "method: mtp"),
            "speculative.method",
            "guesses without a draft model",
        ),
        (
            "qwen3-8b",
            ("planned: 32768", "planned: 65536"),
            "context_tokens.planned",
            "is more than the published 40960",
        ),
        ("qwen3-8b", ("name: qwen3-8b", "name: qwen3-9b"), "name", "is not the file's name"),
        ("qwen3-8b", ("class: small", "class: tiny"), "class", "is not one of the allowed values"),
        ("qwen3-8b", ("task: chat", "task: embedding"), "task", "does not fit the kind chat"),
        ("qwen3-8b", ("german: stated", "germann: stated"), "languages.germann", "unknown key"),
        ("qwen3-8b", ("  usable: true\n", ""), "eu.usable", "missing key"),
    ],
)
def test_mistake_is_told_at_its_place(
    copy: Copy, name: str, edit: tuple[str, str], key: str, wrong: str
) -> None:
    problems = [problem for problem in copy.spoil(name, *edit) if problem.key == key]

    assert problems
    assert problems[0].file == f"{name}.yml"
    assert wrong in problems[0].wrong
    assert problems[0].fix


def test_near_parser_is_offered(copy: Copy) -> None:
    (problem,) = copy.spoil("qwen3-8b", "tool_call_parser: hermes", "tool_call_parser: hermess")

    assert problem.fix == "did you mean 'hermes'?"
    assert problem.seen == '"hermess"'


def test_entry_that_is_no_yaml_is_refused(copy: Copy) -> None:
    (copy.folder / "qwen3-8b.yml").write_text("name: [", encoding="utf-8")

    entry, problems = read_entry(copy.folder, "qwen3-8b", SCHEMA)

    assert entry is None
    assert "is not YAML" in problems[0].wrong
