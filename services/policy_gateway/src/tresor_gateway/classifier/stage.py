"""The stage in a request's life: a request waits for its verdict, an answer for its own.

An answer that is streamed is judged by the window: what has arrived waits until the text that came
with it has been judged, together with the end of what was judged before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from tresor_gateway import config_schema as schema
from tresor_gateway.answering import Answering
from tresor_gateway.api import errors
from tresor_gateway.api.cleaning import AnswerError, decode
from tresor_gateway.api.completions import Choice, FunctionText, PlainChoice, Text
from tresor_gateway.api.errors import ApiError
from tresor_gateway.api.parameters import ChatRequest, CompletionRequest
from tresor_gateway.api.request import Request
from tresor_gateway.api.texts import change_texts
from tresor_gateway.call import Call
from tresor_gateway.catalogue import Catalogue
from tresor_gateway.classifier.client import Classifier
from tresor_gateway.classifier.kinds import Case, windows
from tresor_gateway.classifier.panel import Session
from tresor_gateway.guarded import categories
from tresor_gateway.guardrails.errors import (
    BlockedError,
    GuardrailError,
    GuardrailTimeoutError,
)
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.upstream.forward import Forward
from tresor_gateway.upstream.pool import EnginePool

log = logging.getLogger(__name__)
OVERLAP: Final = 200
_HELD_BYTES: Final = 256 << 10
_DATA: Final = b"data:"
_TEXTS: Final = ("content", "reasoning", "reasoning_content", "refusal")


class ClassifierStage:
    """The classifiers of a configuration."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: EnginePool,
        config: schema.Config,
        catalogue: Catalogue,
        metrics: GatewayMetrics,
    ) -> None:
        self._metrics = metrics
        self._classifiers: list[Classifier] = []
        for settings in config.classifiers:
            model = catalogue.find(settings.model)
            if model is not None:
                self._classifiers.append(
                    Classifier(
                        loop, pool, settings, model, upstream=config.upstream, metrics=metrics
                    )
                )

    def session(self, call: Call, request: Request) -> Session | None:
        """The classifiers' part in this request; none where no text is generated."""
        if call.guard is None or call.identity is None:
            raise errors.internal()
        if not isinstance(request, (ChatRequest, CompletionRequest)):
            return None
        return Session(
            self._classifiers,
            call.guard,
            call.identity.cache_salt.encode(),
            call.exchange.request_id,
            self._metrics,
        )

    def admit(self, call: Call, session: Session, request: Request, go: Callable[[], None]) -> None:
        """Judge the request, then ``go``, or refuse it.

        Raises:
            ApiError: it is more text than can be judged.
        """
        cases = [
            (classifier, Case(piece))
            for classifier in session.wants("request")
            for piece in _pieces(texts_of(request), classifier.settings)
        ]

        def outcome(problem: GuardrailError | None) -> None:
            if call.over or not call.exchange.open:
                return
            try:
                if problem is None:
                    go()
                elif isinstance(problem, BlockedError):
                    call.refuse(errors.content_blocked(categories(str(problem))))
                else:
                    call.refuse(_failed(problem))
            except ApiError as error:
                call.refuse(error)
            except Exception:
                log.exception("request %s", call.exchange.request_id.decode())
                call.refuse(errors.internal())

        call.session = session
        session.judge("request", cases, outcome)

    def behind(self, call: Answering, session: Session, request: Request) -> Answering:
        """Who judges the answer before ``call`` gets it; ``call`` itself if nobody does."""
        classifiers = session.wants("response")
        if not classifiers:
            return call
        return Judged(call, session, classifiers, request)


class Judged:
    """Lets an answer through to ``call`` as far as it has been judged."""

    __slots__ = (
        "_asking",
        "_call",
        "_chat",
        "_classifiers",
        "_ended",
        "_fresh",
        "_held",
        "_held_bytes",
        "_over",
        "_question",
        "_session",
        "_tails",
        "_window",
    )

    def __init__(
        self,
        call: Answering,
        session: Session,
        classifiers: list[Classifier],
        request: Request,
    ) -> None:
        self._call = call
        self._session = session
        self._classifiers = classifiers
        self._chat = isinstance(request, ChatRequest)
        self._question = question_of(request)
        self._window = min(c.settings.stream_characters for c in classifiers)
        self._held: list[bytes] = []
        self._held_bytes = 0
        # By choice: what has not been judged, and the end of what has been.
        self._fresh: dict[int, list[str]] = {}
        self._tails: dict[int, str] = {}
        self._asking = self._ended = self._over = False

    @property
    def exchange(self) -> Exchange:
        """The request that is answered."""
        return self._call.exchange

    @property
    def forward(self) -> Forward | None:
        """The request on its way to an engine."""
        return self._call.forward

    @property
    def streaming(self) -> bool:
        """Whether the client has seen the beginning of a stream."""
        return self._call.streaming

    def stream_data(self, data: bytes) -> None:
        """Whole events: they wait for the verdict on their texts."""
        if self._over:
            return
        try:
            self._read(data)
        except AnswerError:
            self._stop(errors.upstream_failed())
            return
        if not self._asking and not self._held and not self._fresh:
            self._call.stream_data(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._asking:
            if self._held_bytes > _HELD_BYTES and self.forward is not None:
                self.forward.pause()
        elif self._ready():
            self._ask()

    def stream_end(self) -> None:
        """What is left is judged, then the stream ends."""
        self._ended = True
        if not self._asking and not self._over:
            self._ask()

    def stream_cut(self, error: ApiError) -> None:
        """The stream is incomplete; what has not been judged is not shown."""
        if not self._over:
            self._stop(error)

    def answer(self, body: bytes) -> None:
        """A complete answer."""
        try:
            self._note(body)
            cases = self._cases(whole=True)
        except AnswerError:
            self._call.refuse(errors.upstream_failed())
            return
        except ApiError as error:
            self._call.refuse(error)
            return

        def outcome(problem: GuardrailError | None) -> None:
            if problem is None:
                self._call.answer(body)
            else:
                self._call.refuse(_refusal(problem))

        self._session.judge("response", cases, outcome)

    def refuse(self, error: ApiError) -> None:
        """No answer, by our own decision."""
        self._over = True
        self._session.cancel()
        self._call.refuse(error)

    def refused(self, error: ApiError) -> None:
        """No answer."""
        self.refuse(error)

    # --- inner ----------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        for event in data.split(b"\n\n"):
            if event.startswith(_DATA):
                self._note(event[len(_DATA) :])

    def _note(self, payload: bytes) -> None:
        for choice in decode(payload, chat=self._chat).choices:
            text = _text(choice)
            if text:
                self._fresh.setdefault(choice.index, []).append(text)

    def _ready(self) -> bool:
        return sum(len(part) for parts in self._fresh.values() for part in parts) >= self._window

    def _cases(self, *, whole: bool = False) -> list[tuple[Classifier, Case]]:
        fresh, self._fresh = self._fresh, {}
        cases: list[tuple[Classifier, Case]] = []
        for index, parts in fresh.items():
            text = self._tails.get(index, "") + "".join(parts)
            if not whole:
                self._tails[index] = text[-OVERLAP:]
            for classifier in self._classifiers:
                settings = classifier.settings
                question = self._question[-settings.window_characters :]
                cases += [(classifier, Case(question, piece)) for piece in _pieces(text, settings)]
        return cases

    def _ask(self) -> None:
        """Have what is held judged; it leaves when it may."""
        held, self._held, self._held_bytes = self._held, [], 0
        self._asking = True
        try:
            cases = self._cases()
        except ApiError as error:
            self._stop(error)
            return

        def outcome(problem: GuardrailError | None) -> None:
            self._asking = False
            if self._over:
                return
            if problem is not None:
                self._stop(_refusal(problem))
                return
            if held:
                self._call.stream_data(b"".join(held))
            if self.forward is not None and not self.exchange.paused and not self._ended:
                self.forward.resume()
            if self._ready() or (self._ended and self._held):
                self._ask()
            elif self._ended:
                self._over = True
                self._call.stream_end()

        self._session.judge("response", cases, outcome)

    def _stop(self, error: ApiError) -> None:
        self._over = True
        self._session.cancel()
        if self.forward is not None:
            self.forward.cancel()
        if self._call.streaming:
            self._call.stream_cut(error)
        else:
            self._call.refuse(error)


def texts_of(request: Request) -> str:
    """Everything in a request that may hold what a user wants, as one text."""
    found: list[str] = []

    def collect(text: str, screened: bool) -> str:
        if screened:
            found.append(text)
        return text

    change_texts(request, collect)
    return "\n".join(found)


def question_of(request: Request) -> str:
    """What the answer is an answer to: the last text of a user."""
    if isinstance(request, ChatRequest):
        for message in reversed(request.messages):
            if message.role == "user":
                content = message.content
                if isinstance(content, str):
                    return content
                if isinstance(content, list):
                    return " ".join(part.text for part in content if hasattr(part, "text"))
        return ""
    return texts_of(request)


def _text(choice: Choice | PlainChoice) -> str:
    if isinstance(choice, PlainChoice):
        return choice.text if isinstance(choice.text, str) else ""
    message = choice.message if isinstance(choice.message, Text) else choice.delta
    if not isinstance(message, Text):
        return ""
    found = [value for name in _TEXTS if isinstance(value := getattr(message, name), str)]
    if isinstance(message.tool_calls, list):
        for call in message.tool_calls:
            if isinstance(call.function, FunctionText):
                parts = (call.function.name, call.function.arguments)
                found += [value for value in parts if isinstance(value, str)]
    return "".join(found)


def _pieces(text: str, settings: schema.Classifier) -> list[str]:
    pieces = windows(text, settings.window_characters, OVERLAP)
    if len(pieces) > settings.max_windows:
        raise errors.prompt_too_long(
            settings.max_windows * (settings.window_characters - OVERLAP) + OVERLAP
        )
    return pieces


def _failed(problem: GuardrailError) -> ApiError:
    return errors.guardrail_failed(late=isinstance(problem, GuardrailTimeoutError))


def _refusal(problem: GuardrailError) -> ApiError:
    if isinstance(problem, BlockedError):
        return errors.answer_blocked(categories(str(problem)))
    return _failed(problem)
