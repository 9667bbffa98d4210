"""Between engine and client: answers pass the guardrails, and those with a schema obey it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tresor_gateway.answering import Answering
from tresor_gateway.api import errors
from tresor_gateway.api.cleaning import AnswerError, StreamCleaner, clean_answer
from tresor_gateway.api.errors import ApiError
from tresor_gateway.api.parameters import ChatRequest, Message
from tresor_gateway.guardrails.errors import (
    BlockedError,
    GuardrailError,
    GuardrailTimeoutError,
)
from tresor_gateway.guardrails.output import Checked, OutputSchema
from tresor_gateway.guardrails.pipeline import Guard, Verdict

log = logging.getLogger(__name__)
_DATA: Final = b"data:"
OUTPUT_SCHEMA: Final = "output_schema"


@dataclass(frozen=True)
class Contract:
    """The schema an answer must obey, what happens if it does not, and how to ask once more."""

    schema: OutputSchema
    action: Literal["flag", "block"]
    ask_again: Callable[[str, str], None] | None = None


class Guarded:
    """A receiver that lets only judged bytes through to its call."""

    __slots__ = ("_call", "_chat", "_cleaner", "_contract", "_guard", "_texts")

    def __init__(
        self, call: Answering, guard: Guard, *, chat: bool, contract: Contract | None = None
    ) -> None:
        self._call = call
        self._guard = guard
        self._chat = chat
        self._contract = contract
        self._cleaner: StreamCleaner | None = None

    # --- the engine's side (Receiver) ---------------------------------------------------------

    def stream_data(self, data: bytes) -> None:
        """Whole events; what may pass leaves."""
        try:
            out = self._events(data)
        except Exception as error:
            self._stop(error)
            return
        if out:
            self._call.stream_data(out)

    def stream_end(self) -> None:
        """The rest of the texts, then the end."""
        try:
            cleaner = self._stream_cleaner()
            out = cleaner.finish()
            problem = self._problem(cleaner.texts)
        except Exception as error:
            self._stop(error)
            return
        if out:
            self._call.stream_data(out)
        if problem is not None:
            self.stream_cut(errors.output_schema(problem.problem))
        else:
            self._call.stream_end()

    def stream_cut(self, error: ApiError) -> None:
        """The stream is incomplete."""
        if self._call.streaming:
            self._call.stream_cut(error)
        else:
            self._call.refuse(error)

    def answer(self, body: bytes) -> None:
        """A complete answer."""
        try:
            cleaned, texts = clean_answer(self._guard, body, chat=self._chat, repair=self._repair)
            problem = self._problem(texts)
            contract = self._contract
            if problem is not None and contract is not None and contract.ask_again is not None:
                self._contract = Contract(contract.schema, contract.action)
                contract.ask_again(problem.text, problem.problem)
                return
        except Exception as error:
            self._stop(error)
            return
        if problem is None:
            self._call.answer(cleaned)
        else:
            self._call.refuse(errors.output_schema(problem.problem))

    def refused(self, error: ApiError) -> None:
        """No answer."""
        self._call.refused(error)

    # --- inner ----------------------------------------------------------------------------------

    def _events(self, data: bytes) -> bytes:
        out: list[bytes] = []
        cleaner = self._cleaner or self._stream_cleaner()
        for event in data.split(b"\n\n"):
            if event.startswith(_DATA):
                payload = event[len(_DATA) :].lstrip(b" ")
                if b"\n" in payload:
                    raise AnswerError("an event has several lines")
                out.append(cleaner.event(payload))
            elif event and not event.startswith(b":"):
                raise AnswerError("an event is no data")
        return b"".join(out)

    def _stream_cleaner(self) -> StreamCleaner:
        if self._cleaner is None:
            keep = self._contract is not None
            self._cleaner = StreamCleaner(self._guard, chat=self._chat, keep=keep)
        return self._cleaner

    def _repair(self, text: str) -> str:
        """A text that obeys the schema, if a little repair makes it one."""
        return text if self._contract is None else self._contract.schema.check(text).text

    def _problem(self, texts: Sequence[str]) -> Checked | None:
        """The first text that breaks the contract and must not pass."""
        contract = self._contract
        if contract is None:
            return None
        for text in texts:
            checked = contract.schema.check(text)
            if not checked.valid:
                # There is no verdict of weight while the model may be asked once more.
                weight = contract.action if contract.ask_again is None else "flag"
                verdict = self._guard.verdicts.setdefault("response", Verdict())
                verdict.add(OUTPUT_SCHEMA, weight)
                return checked if contract.action == "block" else None
        return None

    def _stop(self, error: Exception) -> None:
        """End the engine's work and say why nothing more comes."""
        call = self._call
        if call.forward is not None:
            call.forward.cancel()
        if isinstance(error, BlockedError):
            self.stream_cut(errors.answer_blocked(categories(str(error))))
        elif isinstance(error, GuardrailError):
            log.warning("request %s: answer: %s", call.exchange.request_id.decode(), error)
            late = isinstance(error, GuardrailTimeoutError)
            self.stream_cut(errors.guardrail_failed(late=late))
        elif isinstance(error, AnswerError):
            log.warning("request %s: %s", call.exchange.request_id.decode(), error)
            self.stream_cut(errors.upstream_failed())
        else:
            log.error("request %s", call.exchange.request_id.decode(), exc_info=error)
            self.stream_cut(errors.internal())


def categories(findings: str) -> str:
    """Kinds without the names of rules: who probes the rules need not learn them."""
    return ", ".join(dict.fromkeys(name.split(".", 1)[0] for name in findings.split(", ")))


def with_complaint(request: ChatRequest, answer: str, problem: str) -> None:
    """Add the bad answer and what is wrong with it to the conversation."""
    request.messages = [
        *request.messages,
        Message(role="assistant", content=answer),
        Message(
            role="user",
            content=(
                f"This does not obey the JSON schema: {problem}. "
                "Answer again with nothing but the JSON that obeys it."
            ),
        ),
    ]
