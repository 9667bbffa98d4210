"""What an operator does with the content store; every use leaves a record before it shows anything.

``authorise`` is where a second person's consent is asked for: it gets what is intended and returns
who consents, or raises. Today one person is enough, and the record says so by having no approvals.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.audit import record as records
from tresor_gateway.audit.chain import Chain
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.verify import ChainError
from tresor_gateway.audit.verify import order as in_order
from tresor_gateway.content import store
from tresor_gateway.content.crypto import ContentError, Owner, SiteKey
from tresor_gateway.content.keyring import check_owner, days
from tresor_gateway.errors import GatewayError

_DECISION: Final = msgspec.json.Decoder(records.Decision)
T = TypeVar("T")
Action = Literal["show", "erase", "expire", "pseudonym"]


@dataclass(frozen=True)
class Order:
    """What somebody wants to do, and why."""

    action: Action
    operator: str
    reason: str
    subject: str = ""
    day: str = ""
    record: str = ""


Authorise = Callable[[Order], list[str]]


def one_person(_order: Order) -> list[str]:
    """Nobody else has to consent."""
    return []


class Operator:
    """The store and the log of those who use it."""

    def __init__(
        self,
        config: schema.Config,
        site_key: SiteKey | None = None,
        *,
        authorise: Authorise = one_person,
    ) -> None:
        """Only reading needs the ``site_key``.

        Raises:
            ContentError: the gateway keeps no content.
        """
        if config.content is None:
            raise ContentError("the configuration has no section content: nothing is kept here")
        self._content = config.content
        self._audit = config.audit
        self._directory = Path(config.content.directory)
        self._site_key = site_key
        self._authorise = authorise

    def show(self, order: Order) -> bytes:
        """The content of a record (its ``id`` or ``request_id``), as JSON.

        Raises:
            GatewayError: there is none, or the use of it cannot be recorded.
        """

        def read(log: _Log) -> bytes:
            decision = self._decision(order.record)
            log.record.subject, log.record.day = decision.subject, decision.time[:10]
            ref = decision.content
            if ref is None:
                raise ContentError(f"record {decision.id} has no content: no rule keeps any of it")
            if ref.kept == "failed":
                raise ContentError(f"the content of record {decision.id} could not be kept")
            if self._site_key is None:
                raise ContentError("reading needs the site key")
            owner = Owner(decision.time[:10], decision.subject)
            return store.read(self._directory, self._site_key, owner, decision.id, ref)

        return self._recorded(order, read)

    def erase(self, order: Order) -> int:
        """Destroy a subject's key of a day; returns how many keys there were.

        Raises:
            GatewayError: it was not destroyed, or cannot be recorded.
        """
        owner = Owner(order.day, order.subject)
        check_owner(owner)

        def destroy(log: _Log) -> int:
            log.write("begun")
            log.record.keys = store.erase(self._directory, owner)
            return log.record.keys

        return self._recorded(order, destroy)

    def expire(self, order: Order, today: date | None = None) -> list[str]:
        """Remove what is older than the retention; returns the days. No record when there is none.

        Raises:
            GatewayError: something could not be removed, or cannot be recorded.
        """
        now = today or datetime.fromtimestamp(time.time(), UTC).date()
        limit = self._content.retention_days
        if not any((now - date.fromisoformat(day)).days > limit for day in days(self._directory)):
            return []

        def remove(log: _Log) -> list[str]:
            log.write("begun")
            log.record.days = store.expire(self._directory, now, limit)
            return log.record.days

        return self._recorded(order, remove)

    def pseudonym(self, order: Order) -> str:
        """Leave a record of somebody having asked for a pseudonym; returns it."""
        return self._recorded(order, lambda _log: order.subject)

    # --- inner ------------------------------------------------------------------------------

    def _recorded(self, order: Order, act: Callable[[_Log], T]) -> T:
        approvals = self._authorise(order)
        name = f"{self._audit.host}-operator"
        chain = Chain(
            Path(self._audit.directory) / name, name, max_file_bytes=self._audit.max_file_bytes
        )
        chain.open()
        log = _Log(chain, order, approvals)
        try:
            result = act(log)
        except (GatewayError, OSError, ChainError) as error:
            log.record.problem = str(error)
            log.write("failed")
            raise ContentError(str(error)) from error
        else:
            log.write("done")
            return result
        finally:
            chain.close()

    def _decision(self, wanted: str) -> records.Decision:
        needle = wanted.encode()
        for path in reversed(in_order([Path(self._audit.directory)])):
            for line in path.read_bytes().split(b"\n"):
                if needle in line and b'"type":"decision"' in line:
                    # The last line of a living file may be half there.
                    with suppress(msgspec.DecodeError):
                        found = _DECISION.decode(line)
                        if wanted in (found.id, found.request_id):
                            return found
        raise ContentError(
            f"no record {wanted!r} below {self._audit.directory}: give the id or the request_id "
            "of a decision of this gateway"
        )


class _Log:
    """The record of one use, written as it goes on."""

    def __init__(self, chain: Chain, order: Order, approvals: list[str]) -> None:
        self._chain = chain
        self.record = records.Content(
            id="",
            time="",
            action=order.action,
            outcome="begun",
            operator=order.operator,
            reason=order.reason,
            approvals=approvals,
            subject=order.subject,
            day=order.day,
            record=order.record,
        )

    def write(self, outcome: Literal["begun", "done", "failed"]) -> None:
        """Make it durable.

        Raises:
            ContentError: it cannot be written, so the use must not go on.
        """
        self.record.id, self.record.outcome = uuid7(), outcome
        self.record.time = records.timestamp(time.time())
        try:
            self._chain.append([msgspec.structs.replace(self.record)])
        except OSError as error:
            raise ContentError(f"the use cannot be recorded: {error}") from error
