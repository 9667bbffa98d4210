"""Which vLLM options and environment variables a site may set.

An allow-list: an option nobody has looked at is refused. What opens the engine (code from a model
directory, files of the host, development endpoints, pickles) and what Tresor itself sets is
refused with its own reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..catalogue.vllm_names import REASONING_PARSERS, TOKENIZER_MODES, TOOL_PARSERS
from .problems import one_of


@dataclass(frozen=True)
class Whole:
    """A whole number within limits, both included."""

    least: int
    most: int

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        if isinstance(value, int) and not isinstance(value, bool):  # noqa: SIM102 - for mypy
            if self.least <= value <= self.most:
                return None
        return f"write a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Share:
    """A number above 0 and below 1."""

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
        return None if fits else "write a number above 0 and below 1"


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        return None if isinstance(value, bool) else "write true or false"


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        seen = value if isinstance(value, str) else None
        return None if value in self.words else one_of(self.words, seen)


@dataclass(frozen=True)
class Amounts:
    """A whole number from 0 on for some of the given words."""

    words: tuple[str, ...]
    most: int

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        if isinstance(value, dict) and value and set(value) <= set(self.words):  # noqa: SIM102
            if all(Whole(0, self.most).fault(amount) is None for amount in value.values()):
                return None
        return f"write whole numbers from 0 to {self.most} for {', '.join(self.words)}"


@dataclass(frozen=True)
class Compilation:
    """How the model is compiled: mode and backend alone, none of the options that name files."""

    def fault(self, value: object) -> str | None:
        """Return what to write instead, or None if the value fits."""
        if isinstance(value, dict) and set(value) == {"mode", "backend"}:  # noqa: SIM102
            if value["mode"] in (0, 1, 2, 3) and value["backend"] in ("eager", "inductor"):
                return None
        return "write mode, a number from 0 to 3, and backend, eager or inductor"


Kind = Whole | Share | Flag | Choice | Amounts | Compilation

ARGUMENTS: Final[Mapping[str, Kind]] = {
    "block_size": Whole(1, 256),
    "compilation_config": Compilation(),
    "config_format": Choice(("auto", "hf", "mistral")),
    "dtype": Choice(("auto", "bfloat16", "float16", "float32")),
    "enable_auto_tool_choice": Flag(),
    "enable_chunked_prefill": Flag(),
    "enable_expert_parallel": Flag(),
    "enable_prefix_caching": Flag(),
    "enforce_eager": Flag(),
    "gpu_memory_utilization": Share(),
    "kv_cache_dtype": Choice(("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")),
    "language_model_only": Flag(),
    "limit_mm_per_prompt": Amounts(("audio", "image", "video"), 64),
    "load_format": Choice(("auto", "fastsafetensors", "safetensors")),
    "long_prefill_token_threshold": Whole(0, 1_048_576),
    "max_num_batched_tokens": Whole(16, 1_048_576),
    "max_num_queued_reqs": Whole(1, 65_536),
    "max_num_queued_tokens": Whole(1, 1_073_741_824),
    "max_num_seqs": Whole(1, 65_536),
    "numa_bind": Flag(),
    "performance_mode": Choice(("balanced", "interactivity", "throughput")),
    "prefix_caching_hash_algo": Choice(("sha256", "sha256_cbor")),
    "reasoning_parser": Choice(tuple(sorted(REASONING_PARSERS))),
    "seed": Whole(0, 4_294_967_295),
    "tokenizer_mode": Choice(tuple(sorted(TOKENIZER_MODES))),
    "tool_call_parser": Choice(tuple(sorted(TOOL_PARSERS))),
}

_ELSEWHERE: Final = {
    "enable_lora": "write lora of the model, whose adapters are artefacts of the bundle",
    "lora_modules": "write lora of the model, whose adapters are artefacts of the bundle",
    "max_lora_rank": "write lora of the model, with the rank of each adapter",
    "max_loras": "write lora of the model; all of its adapters are served together",
    "spec_method": "write speculative of the model",
    "spec_model": "write speculative of the model",
    "spec_tokens": "write speculative of the model",
    "speculative_config": "write speculative of the model",
    "max_model_len": "write context_tokens of the model",
    "quantization": "write quantization of the model",
    "headless": "write nodes of the placement",
    "master_addr": "write nodes of the placement",
    "master_port": "write nodes and fabric_port of the placement",
    "nnodes": "write nodes of the placement",
    "node_rank": "write nodes of the placement",
    "distributed_executor_backend": "write nodes of the placement",
    "tensor_parallel_size": "write parallelism.tensor of the model",
    "pipeline_parallel_size": "write parallelism.pipeline of the model",
}
_TRESOR_SETS: Final = frozenset(
    {
        "allowed_media_domains",
        "allowed_origins",
        "api_key",
        "api_server_count",
        "chat_template",
        "config",
        "disable_access_log_for_endpoints",
        "disable_fastapi_docs",
        "disable_log_stats",
        "enable_log_outputs",
        "enable_log_requests",
        "enable_ssl_refresh",
        "fingerprint_mode",
        "generation_config",
        "host",
        "max_log_len",
        "model",
        "port",
        "revision",
        "root_path",
        "served_model_name",
        "shutdown_timeout",
        "sse_keep_alive_interval",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_ciphers",
        "ssl_keyfile",
        "uds",
    }
)
_DANGEROUS: Final = {
    "trust_remote_code": "it runs code from the model's directory",
    "trust_request_chat_template": "it lets a request bring its own template",
    "trust_request_mm_kwargs": "it lets a request set options of the model",
    "enable_prompt_embeds": "a crafted tensor can crash the engine",
    "enable_mm_embeds": "a crafted tensor can crash the engine",
    "allowed_local_media_path": "it lets a request read files of the host",
    "enable_tokenizer_info_endpoint": "it opens an endpoint",
    "tool_server": "it lets the engine call other servers",
    "profiler_config": "it opens endpoints and writes files",
    "enable_scale_out": "it opens unauthenticated ports",
    "enable_fault_tolerance": "it opens unauthenticated ports",
    "enable_elastic_ep": "it opens endpoints",
    "grpc": "it opens a port without client certificates",
    "grpc_port": "it opens a port without client certificates",
    "enable_sleep_mode": "its endpoints exist in development mode only",
    "middleware": "it loads code by name",
    "logits_processors": "it loads code by name",
    "worker_cls": "it loads code by name",
    "worker_extension_cls": "it loads code by name",
    "hf_overrides": "it changes the model's checked configuration",
    "hf_token": "a site never asks the Hugging Face hub",
    "download_dir": "a site never downloads",
    "kv_transfer_config": "it opens unauthenticated ports",
}

ENVIRONMENT: Final = frozenset(
    {
        "GLOO_SOCKET_IFNAME",
        "NCCL_DEBUG",
        "NCCL_IB_HCA",
        "NCCL_SOCKET_IFNAME",
        "OMP_NUM_THREADS",
        "VLLM_ATTENTION_BACKEND",
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_ENABLE_STARTUP_PLAN",
        "VLLM_ENGINE_READY_TIMEOUT_S",
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
        "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS",
    }
)


def argument_fault(name: str, value: object) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) for a vLLM option, or None if it may be set so."""
    if name in _DANGEROUS:
        return f"is refused: {_DANGEROUS[name]}", "remove it"
    if name in _TRESOR_SETS:
        return "is set by Tresor", "remove it"
    if name in _ELSEWHERE:
        return "has its own key", f"remove it and {_ELSEWHERE[name]}"
    kind = ARGUMENTS.get(name)
    if kind is None:
        return "is not among the vLLM options that Tresor has checked", one_of(ARGUMENTS, name)
    fault = kind.fault(value)
    return ("has a value that does not fit", fault) if fault else None


def environment_fault(name: str) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) for an environment variable, or None if it is allowed."""
    if name in ENVIRONMENT:
        return None
    return "is not among the variables that Tresor has checked", one_of(ENVIRONMENT, name)
