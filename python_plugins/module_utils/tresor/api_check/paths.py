"""What vLLM and the gateway answer inside and what must not exist outside."""

from __future__ import annotations

ENGINE_ROUTES: tuple[tuple[str, str], ...] = (
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/load"),
    ("GET", "/ping"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/invocations"),
    ("POST", "/pooling"),
    ("POST", "/classify"),
    ("POST", "/score"),
    ("POST", "/rerank"),
    ("POST", "/v1/score"),
    ("POST", "/v2/embed"),
    ("POST", "/v1/chat/completions/batch"),
    ("POST", "/v1/chat/completions/render"),
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
    ("POST", "/inference/v1/generate"),
    ("POST", "/collective_rpc"),
    ("POST", "/sleep"),
    ("GET", "/server_info"),
    ("POST", "/scale_elastic_ep"),
)
"""vLLM's side routes, each with the method it answers to."""

INNER_ROUTES: tuple[tuple[str, str], ...] = (
    ("GET", "/internal/authorize"),
    ("POST", "/internal/authorize"),
    ("GET", "/internal/"),
)
"""The gateway's own routes, which only NGINX may ask."""

DISGUISES: tuple[tuple[str, str], ...] = (
    ("GET", "/v1/../metrics"),
    ("GET", "/v1/%2e%2e/metrics"),
    ("GET", "/v1/models/../../metrics"),
    ("GET", "//metrics"),
    ("GET", "/v1/models%2f..%2f..%2fmetrics"),
    ("GET", "/v1/models;/metrics"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "/V1/CHAT/COMPLETIONS"),
    ("DELETE", "/v1/models"),
    ("TRACE", "/v1/models"),
)
"""Listed paths written so that two parsers may disagree about them, and wrong methods."""
