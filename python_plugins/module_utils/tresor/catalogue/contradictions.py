"""Engine options that do not go together: vLLM would refuse to start, or do something else.

Read in vLLM 0.33 (`entrypoints/common/cli_args.py`, `config/scheduler.py`, `config/multimodal.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

POOLING: Final = ("embedding", "rerank")
"""Tasks whose engines write no text."""
_WRITING: Final = (
    "enable_auto_tool_choice",
    "tool_call_parser",
    "reasoning_parser",
)


def contradictions(
    args: Mapping[str, Any], task: str, context_tokens: int | None
) -> Iterator[tuple[str, str, str]]:
    """Yield (option, what is wrong, what to do) for options that contradict each other."""
    if task in POOLING:
        for name in _WRITING:
            if args.get(name):
                yield name, f"belongs to models that write, the task is {task}", "remove it"
    elif args.get("tool_call_parser") and args.get("enable_auto_tool_choice") is not True:
        fix = "write enable_auto_tool_choice: true, or remove the parser"
        yield "tool_call_parser", "is never asked without enable_auto_tool_choice", fix
    elif args.get("enable_auto_tool_choice") and not args.get("tool_call_parser"):
        fix = "write tool_call_parser, or remove it"
        yield "enable_auto_tool_choice", "needs a tool_call_parser, vLLM does not start", fix
    if args.get("language_model_only") is True and "limit_mm_per_prompt" in args:
        fix = "remove one of the two"
        yield "limit_mm_per_prompt", "contradicts language_model_only: there are no images", fix
    if args.get("enable_prefix_caching") is False and "prefix_caching_hash_algo" in args:
        fix = "remove it, or enable_prefix_caching: false"
        yield "prefix_caching_hash_algo", "is for a prefix cache that is switched off", fix
    yield from _batches(args, context_tokens)


def _batches(args: Mapping[str, Any], context_tokens: int | None) -> Iterator[tuple[str, str, str]]:
    batch, sequences = _whole(args, "max_num_batched_tokens"), _whole(args, "max_num_seqs")
    if batch is not None and sequences is not None and batch < sequences:
        wrong = f"is less than max_num_seqs ({sequences})"
        yield "max_num_batched_tokens", wrong, f"write {sequences} or more"
    if context_tokens is None:
        return
    if batch is not None and batch < context_tokens and args.get("enable_chunked_prefill") is False:
        wrong = f"is less than the context ({context_tokens}) while enable_chunked_prefill is false"
        fix = f"write {context_tokens} or more, or remove enable_chunked_prefill"
        yield "max_num_batched_tokens", wrong, fix
    threshold = _whole(args, "long_prefill_token_threshold")
    if threshold is not None and threshold > context_tokens:
        wrong = f"is more than the context ({context_tokens})"
        yield "long_prefill_token_threshold", wrong, f"write {context_tokens} or less"


def _whole(args: Mapping[str, Any], name: str) -> int | None:
    value = args.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
