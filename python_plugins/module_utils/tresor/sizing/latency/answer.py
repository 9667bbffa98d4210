"""The public answer: milliseconds, tokens a second, what bounds them and how sure that is."""

from __future__ import annotations

from typing import Any

from .choice import choose
from .fitted import CONSTANTS, ERRORS
from .question import Answer, Question
from .resolve import resolve
from .work import Work


def latency(**options: Any) -> dict[str, Any]:  # noqa: ANN401 (options are checked in resolve)
    """Return how fast a deployment answers.

    Options are those of the memory estimate (``model``, ``gpu``, ``tensor_parallel_size``, ...) and

    - ``input_tokens``, ``output_tokens``: of the mean request; ``cached_tokens`` of its prompt are
      already in the prefix cache and come on top.
    - ``concurrency``: users who each wait for an answer before the next request (closed loop), or
      requests of a static batch; ``request_rate``: requests a second (open loop).
    - ``engine``: ``vllm``, ``tensorrt_llm`` or ``sglang``; ``engine_version``: a version or a text
      with a year.
    - ``metric_kind``: what a published figure of that kind measures (``online_closed_loop``,
      ``online_open_loop``, ``offline_static_batch``, ``offline_max_throughput``,
      ``mlperf_offline``, ``mlperf_server``, ``mlperf_interactive``).
    - ``replicas``: equal deployments that share the load.

    Times are milliseconds, None where the kind does not define them or no steady state exists.

    Raises:
        SizingError: an option is wrong, or the model does not fit.
    """
    resolved = resolve(options)
    question, work, found = choose(resolved.questions, CONSTANTS)
    return _as_dict(question, work, found, resolved.notes)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _as_dict(
    question: Question, work: Work, found: Answer, notes: tuple[str, ...]
) -> dict[str, Any]:
    layout = question.layout
    tokens = found.tokens_per_second
    total = found.parts.total
    parts = found.parts
    error = ERRORS.get(question.kind)
    return {
        "ttft_ms": _ms(found.ttft),
        "ttft_p95_ms": _ms(found.ttft_95),
        "itl_ms": _ms(found.itl),
        "e2e_ms": _ms(found.e2e),
        "e2e_p95_ms": _ms(found.e2e_95),
        "output_tok_s_total": tokens,
        "output_tok_s_per_gpu": tokens / (layout.gpus * question.replicas) if tokens else None,
        "stable": found.stable,
        "running_sequences": found.running,
        "max_running_sequences": found.slots,
        "queued_users": found.queued,
        "bound_by": parts.bound_by(),
        "step_shares": {
            "matrix_products": parts.product / total,
            "kv_cache": parts.cache / total,
            "prompt_attention": parts.prompt_attention / total,
            "communication": parts.communication / total,
            "overhead": parts.overhead / total,
        },
        "model": question.shape.name,
        "gpu": question.gpu.name,
        "quantization": question.shape.quantization.name,
        "tensor_parallel_size": layout.tensor,
        "pipeline_parallel_size": layout.pipeline,
        "data_parallel_size": layout.data,
        "replicas": question.replicas,
        "gpus": layout.gpus * question.replicas,
        "weights_gib_per_gpu": work.weight_bytes / layout.pipeline / 1024**3,
        "metric_kind": question.kind,
        "engine": question.engine.name,
        "error_figures": error[0] if error else 0,
        "error_median_percent": error[1] if error else None,
        "error_p90_percent": error[2] if error else None,
        "notes": list(notes),
    }
