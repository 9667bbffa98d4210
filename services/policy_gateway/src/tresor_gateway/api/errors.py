"""Refusals and failures in OpenAI's error shape.

Each error also carries ``reason``, the word that the audit record and the metrics use for it;
``docs/audit-format.md`` lists them all.
"""

from __future__ import annotations

from typing import Final

import msgspec

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"
LIMIT_TEXTS: Final = {
    "limit_requests": "Your requests of this minute are",
    "limit_tokens": "Your tokens of this minute are",
    "limit_daily_tokens": "Your tokens of this day are",
    "limit_streams": "Your concurrent streams are",
}


class ApiError(Exception):
    """An answer that is not the one asked for.

    ``said`` are an engine's own words. Nobody hears them before they were judged.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers
        self.said = said

    @property
    def denied(self) -> bool:
        """Whether policy or the request itself was the cause, not a failure behind us."""
        return self.status < 500

    def anthropic_body(self) -> bytes:
        """``{"type": "error", ...}`` as Anthropic's clients expect it."""
        kind = _ANTHROPIC_KINDS.get(self.status, "api_error")
        error = {"type": kind, "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error})

    def body(self) -> bytes:
        """``{"error": {...}}`` as OpenAI's clients expect it."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


_ANTHROPIC_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is wrong in itself."""
    return ApiError(400, "bad_request", message, param=param, code=code)


def bad_parameter(name: str, message: str) -> ApiError:
    """400: a parameter that is unknown, forbidden or out of range."""
    return ApiError(400, "parameter_refused", message, param=name, code="unsupported_parameter")


def malformed_http(message: str) -> ApiError:
    """400: not a request we are ready to interpret (smuggling shapes among them)."""
    return ApiError(400, "malformed_http", message, code="malformed_request")


def unknown_path() -> ApiError:
    """404 for everything that is not on the list of endpoints."""
    return ApiError(404, "unknown_path", "This path or method does not exist.", code="unknown_url")


def model_not_found(name: str) -> ApiError:
    """404, the same for a model that does not exist and one that the user may not use."""
    return ApiError(
        404,
        "model_not_found",
        f"The model `{name[:128]}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def too_large(limit: int) -> ApiError:
    """413: the body exceeds the limit (bytes)."""
    return ApiError(
        413,
        "body_too_large",
        f"The request body is larger than {limit} bytes.",
        code="request_too_large",
    )


def headers_too_large(limit: int) -> ApiError:
    """431: request line and headers exceed the limit (bytes)."""
    return ApiError(
        431,
        "headers_too_large",
        f"The request's headers are larger than {limit} bytes.",
        code="headers_too_large",
    )


def too_slow() -> ApiError:
    """408: the request did not arrive in time."""
    return ApiError(408, "slow_sender", "The request did not arrive in time.", code="timeout")


def unauthorized(reason: str, message: str) -> ApiError:
    """401 with the challenge of RFC 6750."""
    challenge = b'Bearer realm="tresor"'
    if reason != "token_missing":
        challenge += b', error="invalid_token", error_description="' + message.encode() + b'"'
    return ApiError(
        401,
        reason,
        message,
        kind="authentication_error",
        code="invalid_api_key",
        headers=((b"WWW-Authenticate", challenge),),
    )


def forbidden_endpoint(endpoint: str) -> ApiError:
    """403: the token is good, its groups may not use this endpoint."""
    return ApiError(
        403,
        "endpoint_forbidden",
        f"Your groups may not use the endpoint {endpoint}.",
        kind="permission_error",
        code="insufficient_permissions",
    )


def content_blocked(findings: str) -> ApiError:
    """400: the site's policy does not let this request pass."""
    return ApiError(
        400,
        "guardrail_blocked",
        f"The request was blocked by the site's content rules ({findings}).",
        code="content_filter",
    )


def answer_blocked(findings: str) -> ApiError:
    """400: the site's policy does not let the model's answer pass."""
    return ApiError(
        400,
        "answer_blocked",
        f"The answer was blocked by the site's content rules ({findings}).",
        code="content_filter",
    )


def prompt_too_long(limit: int) -> ApiError:
    """413: more text than can be judged (characters)."""
    return ApiError(
        413,
        "prompt_too_long",
        f"The texts of the request have more than {limit} characters.",
        code="context_length_exceeded",
    )


def prompt_too_dense() -> ApiError:
    """413: more places in the texts that have to be looked at than can be."""
    return ApiError(
        413,
        "prompt_too_dense",
        "The request holds more numbers, addresses and the like than can be judged at once; "
        "send it in parts.",
        code="context_length_exceeded",
    )


def limit_reached(reason: str, retry_after: int) -> ApiError:
    """429: the subject has used up what its groups allow."""
    return ApiError(
        429,
        reason,
        f"{LIMIT_TEXTS[reason]} used up; try again in {retry_after} s.",
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        headers=((b"Retry-After", str(retry_after).encode()),),
    )


def context_limit(limit: int) -> ApiError:
    """400: prompt and answer together would be longer than the groups allow (tokens)."""
    return ApiError(
        400,
        "limit_context",
        f"Prompt and answer together may have at most {limit} tokens.",
        code="context_length_exceeded",
    )


def queue_full(retry_after: int) -> ApiError:
    """429: all replicas of the model have as many requests as they may have."""
    return ApiError(
        429,
        "queue_full",
        f"All engines of this model are busy; try again in {retry_after} s.",
        kind="rate_limit_error",
        code="queue_full",
        headers=((b"Retry-After", str(retry_after).encode()),),
    )


def output_schema(problem: str) -> ApiError:
    """502: the model's answer does not obey the schema the client asked for."""
    return ApiError(
        502,
        "output_schema",
        f"The model's answer does not obey the schema of response_format: {problem}.",
        kind=SERVER,
        code="output_schema",
    )


def unavailable(reason: str, message: str, retry_after: int = 5) -> ApiError:
    """503: something behind the gateway is missing; trying again makes sense."""
    return ApiError(
        503,
        reason,
        message,
        kind=SERVER,
        code=reason,
        headers=((b"Retry-After", str(retry_after).encode()),),
    )


def engine_refused(said: str, param: str | None, *, large: bool) -> ApiError:
    """400 or 413: the engine says that the request itself is wrong."""
    return ApiError(
        413 if large else 400,
        "engine_refused",
        "The model's engine refused the request.",
        code="engine_refused",
        param=param,
        said=said,
    )


def upstream_failed(message: str = "The model's engine failed to answer.") -> ApiError:
    """502: the engine answered with an error or with something else than an answer."""
    return ApiError(502, "upstream_error", message, kind=SERVER, code="upstream_error")


def upstream_timeout() -> ApiError:
    """504: a deadline passed while waiting for the engine."""
    return ApiError(
        504,
        "upstream_timeout",
        "The model's engine did not answer in time.",
        kind=SERVER,
        code="upstream_timeout",
    )


def internal() -> ApiError:
    """500: our own fault; nothing about it leaves the gateway."""
    return ApiError(500, "internal_error", "The gateway failed.", kind=SERVER, code="internal")


def content_unavailable() -> ApiError:
    """503: the content of the request must be kept, and cannot be."""
    return unavailable(
        "content_unavailable", "The content of this request cannot be kept as it must be.", 10
    )


def audit_late() -> ApiError:
    """503: the answer must not leave before its record is on disk, and that takes too long."""
    return unavailable("audit_timeout", "The decision could not be recorded in time.", 10)


def guardrail_failed(*, late: bool) -> ApiError:
    """503: there is no verdict on a text, so it does not pass."""
    if late:
        return unavailable("guardrail_timeout", "The text could not be judged in time.", 2)
    return unavailable("guardrail_failed", "The text could not be judged.", 5)
