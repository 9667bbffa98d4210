"""The policy: what happens to a request between the client's socket and the engine's.

Everything that can fail ends in an ``ApiError``; what is not expected ends in a 500 with a record.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from tresor_gateway import config_schema as schema
from tresor_gateway import dialect
from tresor_gateway.answering import Answering
from tresor_gateway.api import answers, endpoints, errors, request
from tresor_gateway.api.endpoints import Endpoint, EndpointTable
from tresor_gateway.api.errors import ApiError
from tresor_gateway.api.parameters import (
    ChatRequest,
    EmbeddingRequest,
    JsonSchema,
    RerankRequest,
    ResponseFormat,
)
from tresor_gateway.api.texts import change_texts
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.call import Call
from tresor_gateway.catalogue import Catalogue, Model
from tresor_gateway.classifier.panel import Session
from tresor_gateway.classifier.stage import ClassifierStage
from tresor_gateway.content.keeping import Keeping
from tresor_gateway.content.kept import Tap
from tresor_gateway.dispatch import Dispatch, Means
from tresor_gateway.guarded import Contract, Guarded, categories
from tresor_gateway.guardrails.errors import (
    BlockedError,
    GuardrailError,
    GuardrailTimeoutError,
    TooManyCandidatesError,
)
from tresor_gateway.guardrails.output import OutputSchema
from tresor_gateway.guardrails.pipeline import Guard, Part, Pipeline
from tresor_gateway.guardrails.schema_cost import SchemaError
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.identity.authenticator import Authenticator, Identity, KeysNeededError
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.routing.affinity import key
from tresor_gateway.routing.auto import Facts, Routes
from tresor_gateway.tracing.tracer import Tracer
from tresor_gateway.upstream.forward import Receiver
from tresor_gateway.upstream.pool import EnginePool, Replica
from tresor_gateway.usage.table import Refusal, Ticket, UsageFullError, UsageTable

log = logging.getLogger(__name__)
CERTIFICATE_HEADER: Final = b"x-tresor-client-certificate"
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")


@dataclass(frozen=True)
class Parts:
    """What the gateway is made of."""

    config: schema.Config
    catalogue: Catalogue
    pool: EnginePool
    authenticator: Authenticator
    audit: AuditWriter
    metrics: GatewayMetrics
    pipeline: Pipeline
    usage: UsageTable
    content: Keeping | None = None
    classifiers: ClassifierStage | None = None
    tracer: Tracer | None = None


class Gateway:
    """The application behind a worker's connections."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, parts: Parts, *, behind_proxy: bool
    ) -> None:
        limits = parts.config.limits
        self._loop = loop
        self._config = parts.config
        self._catalogue = parts.catalogue
        self._pool = parts.pool
        self._means = Means(loop, parts.pool, parts.config.upstream)
        self._authenticator = parts.authenticator
        self._pipeline = parts.pipeline
        self._routes = Routes(parts.config.routes)
        self._usage = parts.usage
        self._content = parts.content
        self._classifiers = parts.classifiers
        self._behind_proxy = behind_proxy
        self._endpoints = EndpointTable(
            frozenset(parts.catalogue.tasks.values()), internal=behind_proxy
        )
        self._limits = request.RequestLimits(
            limits.max_output_tokens, limits.max_choices, limits.max_inputs
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self.audit = parts.audit
        self.tracer = parts.tracer
        self.metrics = parts.metrics

    def adopt(self, parts: Parts) -> None:
        """Decide by another configuration from now on; what has begun goes on as it began."""
        self._config = parts.config
        self._means = Means(self._loop, self._pool, parts.config.upstream)
        self._catalogue = parts.catalogue
        self._pipeline = parts.pipeline
        self._content = parts.content
        self._classifiers = parts.classifiers
        self._routes = Routes(parts.config.routes)
        self._endpoints = EndpointTable(
            frozenset(parts.catalogue.tasks.values()), internal=self._behind_proxy
        )
        limits = parts.config.limits
        self._limits = request.RequestLimits(
            limits.max_output_tokens, limits.max_choices, limits.max_inputs
        )

    # --- Application --------------------------------------------------------------------------

    def head_received(self, exchange: Exchange) -> ApiError | None:
        """Identity and endpoint are decided before a body is accepted."""
        call = self._call(exchange)
        try:
            self._judge_head(call)
        except ApiError as error:
            return error
        except Exception:
            log.exception("request %s", exchange.request_id.decode())
            return errors.internal()
        return None

    def request_received(self, exchange: Exchange) -> None:
        """The body is here."""
        call: Call = exchange.context
        if self._is_full:
            # More requests than this were being sent when their heads were judged.
            call.refuse(_busy())
            return
        call.begin()
        if call.auth_pending:
            task = self._loop.create_task(self._authenticate_late(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._proceed(call)

    def request_refused(self, exchange: Exchange, error: ApiError) -> None:
        """A refusal by the protocol or by ``head_received``."""
        call = self._call(exchange)
        if self.audit.healthy:
            call.refuse(error)
        else:
            self.audit.refuse()
            call.refuse_without_record(error)

    def client_gone(self, exchange: Exchange) -> None:
        """Nobody waits for the answer."""
        if exchange.context is not None:
            exchange.context.client_gone()
            exchange.context = None

    # --- steps ------------------------------------------------------------------------------------

    def _call(self, exchange: Exchange) -> Call:
        if exchange.context is None:
            given = exchange.headers.get(b"x-request-id", b"")
            trusted = self._behind_proxy and _REQUEST_ID.fullmatch(given)
            exchange.request_id = given if trusted else uuid7().encode()
            exchange.context = Call(self, exchange)
        call: Call = exchange.context
        return call

    def _judge_head(self, call: Call) -> None:
        exchange = call.exchange
        if not self.audit.healthy:
            raise errors.unavailable("audit_unavailable", "Decisions cannot be recorded.", 10)
        endpoint = self._endpoints.find(exchange.method, exchange.target)
        if endpoint is None:
            raise errors.unknown_path()
        call.endpoint = endpoint
        if endpoint is endpoints.AUTHORIZE:
            asked = self._endpoints.named(
                exchange.headers.get(b"x-tresor-endpoint", b"").decode("latin-1")
            )
            if asked is None:
                raise errors.unknown_path()
            call.endpoint_name = asked.name
        else:
            call.endpoint_name = endpoint.name
        if self._is_full:
            raise _busy()
        if endpoint.method == b"POST":
            _check_content(exchange.headers)
        try:
            identity = self._authenticator.authenticate(
                exchange.headers.get(b"authorization"), self._certificate(exchange)
            )
        except KeysNeededError:
            call.auth_pending = True
            return
        self._admit(call, identity)

    def _certificate(self, exchange: Exchange) -> bytes | None:
        """The client's certificate, which only NGINX can vouch for."""
        if not self._behind_proxy:
            return None
        return exchange.headers.get(CERTIFICATE_HEADER)

    @property
    def _is_full(self) -> bool:
        return self.metrics.in_flight >= self._config.limits.max_concurrent_requests

    def _admit(self, call: Call, identity: Identity) -> None:
        call.identity = identity
        if not identity.grant.may_use_endpoint(call.endpoint_name):
            raise errors.forbidden_endpoint(call.endpoint_name)

    async def _authenticate_late(self, call: Call) -> None:
        try:
            await self._authenticator.refresh()
            if not call.exchange.open:
                return
            header = call.exchange.headers.get(b"authorization")
            identity = self._authenticator.authenticate(
                header, self._certificate(call.exchange), may_refetch=False
            )
            self._admit(call, identity)
        except ApiError as error:
            call.refuse(error)
            return
        except Exception:
            log.exception("request %s", call.exchange.request_id.decode())
            call.refuse(errors.internal())
            return
        self._proceed(call)

    def _proceed(self, call: Call) -> None:
        exchange = call.exchange
        try:
            self._dispatch(call)
        except ApiError as error:
            # Another call may have taken over meanwhile.
            (exchange.context or call).refuse(error)
        except RecursionError:
            nested = errors.bad_request("The body is nested too deeply.")
            (exchange.context or call).refuse(nested)
        except Exception:
            log.exception("request %s", exchange.request_id.decode())
            (exchange.context or call).refuse(errors.internal())

    def _dispatch(self, call: Call) -> None:
        endpoint, identity = call.endpoint, call.identity
        if endpoint is None or identity is None:
            raise errors.internal()
        if endpoint is endpoints.AUTHORIZE:
            call.authorized()
        elif endpoint is endpoints.MODELS:
            call.succeed(200, answers.models(self._visible(identity)))
        else:
            self._forward(call, endpoint, identity)

    def _visible(self, identity: Identity) -> set[str]:
        """The models someone may use, and the routes that lead to one of them."""
        models = set(identity.grant.models)
        routes = self._routes
        return models | {name for name in routes.names if models.intersection(routes.targets(name))}

    def _forward(self, call: Call, endpoint: Endpoint, identity: Identity) -> None:
        exchange = call.exchange
        if self.tracer is not None:
            call.trace = self.tracer.begin(exchange.headers)
        parsed = request.decode(endpoint, exchange.body)
        asked = parsed.model
        model = call.model = self._choose(call, endpoint, identity, parsed)
        prepared = request.prepare(parsed, self._limits, model.context_tokens)
        call.parameters = prepared.parameters
        self._admit_use(call, identity, prepared)
        call = _in_dialect(call, endpoint, parsed, asked)
        prepared.usage_wanted = prepared.usage_wanted or endpoint.translated
        guard = call.guard = self._pipeline.guard(identity.cache_salt.encode())
        # What is put back into an answer must obey the client's schema, not the masked one.
        given = wanted_schema(parsed)
        self._judge(guard, parsed)
        if self._content is not None:
            call.keeper = self._content.watch(call, parsed, guard)
        schema = given if self._config.guardrails.restore else wanted_schema(parsed)

        choice = model.affinity and (len(model.replicas) > 1 or model.fallback is not None)
        affinity = key(parsed, identity.cache_salt) if choice else None
        dispatch = Dispatch(
            self,
            self._means,
            call,
            guard=guard,
            endpoint=endpoint,
            identity=identity,
            model=model,
            prepared=prepared,
            affinity=affinity,
        )
        # A full queue is a refusal, told before anything is begun.
        order = dispatch.order()
        stage = self._classifiers
        session = None if stage is None else stage.session(call, parsed)
        dispatch.receiver = self._receiver(call, guard, parsed, schema, dispatch, session=session)
        if stage is None or session is None:
            dispatch.start(order)
        else:
            # The wait for the verdict may change who is free.
            stage.admit(call, session, parsed, dispatch.begin)

    def _admit_use(self, call: Call, identity: Identity, prepared: request.Prepared) -> None:
        """Count the request against the limits of its subject's groups."""
        limits = identity.grant.limits
        # Four characters are about one token; the engine counts exactly in the end.
        tokens = len(call.exchange.body) // 4 + prepared.asked_tokens
        if limits.context_tokens is not None and tokens > limits.context_tokens:
            raise errors.context_limit(limits.context_tokens)
        if not limits.counted:
            return
        try:
            ticket = self._usage.admit(
                identity.subject, limits, tokens=tokens, stream=prepared.stream
            )
        except UsageFullError as error:
            raise errors.unavailable("usage_unavailable", "Usage cannot be counted.", 30) from error
        if isinstance(ticket, Refusal):
            raise errors.limit_reached(ticket.limit, ticket.retry_after)
        call.ticket = ticket

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """A counted request is over."""
        self._usage.settle(ticket, tokens)

    def _choose(
        self, call: Call, endpoint: Endpoint, identity: Identity, parsed: request.Request
    ) -> Model:
        """The model that was asked for, by its name, an alias or a route."""
        asked = parsed.model

        def allowed(name: str) -> bool:
            return identity.grant.may_use_model(endpoint.name, name)

        name: str | None = asked
        if self._routes.targets(asked):
            facts = Facts(parsed, frozenset(identity.grant.groups))
            name = self._routes.choose(asked, facts, allowed)
            if name is not None:
                call.route = asked
                self.metrics.routes.add(asked, name)
        model = self._catalogue.find(name) if name is not None else None
        if model is None or not allowed(model.name):
            raise errors.model_not_found(asked)
        return model

    def replicas(
        self, model: Model, endpoint: Endpoint, identity: Identity, affinity: bytes | None
    ) -> list[Replica]:
        """Whom to ask, in this order: the model, its fallback, then those who failed lately."""
        models = [model]
        fallback = self._catalogue.find(model.fallback) if model.fallback else None
        if fallback is not None and identity.grant.may_use_model(endpoint.name, fallback.name):
            models.append(fallback)
        pool = self._pool
        order: list[Replica] = []
        for m in models:
            order += pool.usable(m.replicas, affinity)
        usable = list(order)
        for m in models:
            order += pool.doubtful(m.replicas, usable)
        return order

    def queue_full(self, model: Model) -> ApiError:
        """The refusal when everybody has enough to do."""
        seconds = min(replica.engine.average for replica in model.replicas)
        self.metrics.queue_full.add(model.name)
        return errors.queue_full(max(1, min(60, math.ceil(seconds))))

    def _judge(self, guard: Guard, parsed: request.Request) -> None:
        """The texts of a request pass the guardrails, masked where the policy says so."""
        began = time.perf_counter()
        parts: list[Part] = []

        def collect(text: str, screened: bool) -> str:
            parts.append(Part(text, screened))
            return text

        change_texts(parsed, collect)
        limit = self._config.guardrails.max_prompt_characters
        length = 0
        for part in parts:
            length += len(part.text)
        if length > limit:
            raise errors.prompt_too_long(limit)
        try:
            masked = guard.incoming(parts)
        except BlockedError as blocked:
            raise errors.content_blocked(categories(str(blocked))) from blocked
        except TooManyCandidatesError as dense:
            raise errors.prompt_too_dense() from dense
        except GuardrailError as error:
            log.warning("request: %s", error)
            raise errors.guardrail_failed(late=isinstance(error, GuardrailTimeoutError)) from error
        finally:
            self.metrics.judging.observe(time.perf_counter() - began)
        if masked is not None:
            texts = iter(masked)
            change_texts(parsed, lambda _text, _screened: next(texts))

    def _receiver(
        self,
        call: Call,
        guard: Guard,
        parsed: request.Request,
        schema: dict[str, Any] | None,
        dispatch: Dispatch,
        *,
        session: Session | None,
    ) -> Receiver:
        """Who reads the answer: the call itself when there is nothing to look for in it."""
        chat = isinstance(parsed, ChatRequest)
        contract: Contract | None = None
        settings = self._config.guardrails
        action = settings.response.output_schema
        if schema is not None and action != "allow":
            try:
                compiled = OutputSchema(schema)
            except SchemaError as error:
                raise errors.bad_parameter(
                    "response_format", f"The schema cannot be used: {error}."
                ) from error

            whole = action == "block" and not getattr(parsed, "stream", False)
            again = dispatch.ask_again if settings.repair and whole else None
            contract = Contract(compiled, action, again)
        if isinstance(parsed, (EmbeddingRequest, RerankRequest)):
            return call
        behind: Answering = call if call.keeper is None else Tap(call, call.keeper)
        if session is not None and self._classifiers is not None:
            behind = self._classifiers.behind(behind, session, parsed)
        if contract is None and not guard.cleans_responses:
            return behind
        return Guarded(behind, guard, chat=chat, contract=contract)


def _in_dialect(call: Call, endpoint: Endpoint, parsed: request.Request, model: str) -> Call:
    """Who answers in the shape that the endpoint has."""
    if endpoint is endpoints.MESSAGES:
        return dialect.anthropic(call, model)
    if endpoint is endpoints.RESPONSES:
        return dialect.responses_call(call, model)
    if isinstance(parsed, RerankRequest):
        return dialect.RerankCall(call, model, parsed)
    if isinstance(parsed, EmbeddingRequest):
        return dialect.EmbeddingCall(call)
    return call


def wanted_schema(parsed: request.Request) -> dict[str, Any] | None:
    """The JSON Schema a client wants the answer to obey."""
    form = parsed.response_format if isinstance(parsed, ChatRequest) else None
    if isinstance(form, ResponseFormat) and isinstance(form.json_schema, JsonSchema):
        return form.json_schema.schema
    return None


def _busy() -> ApiError:
    return errors.unavailable("overloaded", "The gateway is busy.", 2)


def _check_content(headers: dict[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if content_type != b"application/json":
        raise errors.bad_request("The header content-type must be application/json.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise errors.bad_request("Compressed request bodies are not supported.")


__all__ = ["Endpoint", "Gateway", "Parts"]
