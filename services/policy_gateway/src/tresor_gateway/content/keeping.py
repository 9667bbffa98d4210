"""From the configuration to the content store of a worker, and from a request to its keeper."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.api import errors
from tresor_gateway.api.parameters import ChatRequest
from tresor_gateway.api.request import Request
from tresor_gateway.call import Call
from tresor_gateway.content.crypto import ContentError, SiteKey
from tresor_gateway.content.kept import Keeper
from tresor_gateway.content.policy import mode
from tresor_gateway.content.store import Store
from tresor_gateway.content.writer import ContentWriter
from tresor_gateway.guardrails.pipeline import Guard
from tresor_gateway.keys import read_secret

_ENCODER = msgspec.json.Encoder()


class Keeping:
    """Whose content is kept, and by whom."""

    def __init__(self, writer: ContentWriter, rules: list[schema.ContentRule]) -> None:
        self.writer = writer
        self._rules = rules

    def watch(self, call: Call, request: Request, guard: Guard) -> Keeper | None:
        """The keeper of a request whose texts have passed; none if nothing of it is kept.

        Raises:
            ApiError: its content must be kept, and cannot be.
        """
        identity, model = call.identity, call.model
        if identity is None or model is None:
            raise errors.internal()
        kept = mode(self._rules, identity.grant.groups, call.endpoint_name, model.name)
        if kept is None:
            return None
        if not self.writer.healthy:
            raise errors.content_unavailable()
        text = call.exchange.body if kept == "full" else _ENCODER.encode(request)
        return Keeper(self.writer, kept, text, guard, chat=isinstance(request, ChatRequest))


def site_key(settings: schema.Content) -> SiteKey:
    """The key that data keys are wrapped with.

    Raises:
        ConfigError: its file is missing, unreadable or too short.
    """
    return SiteKey(read_secret("content.key_file", settings.key_file))


def content_writer(
    loop: asyncio.AbstractEventLoop, config: schema.Config, number: int
) -> ContentWriter | None:
    """The writer of a worker; none where no content is kept.

    Raises:
        ConfigError: the key cannot be read.
        ContentError: the directory cannot be used.
    """
    settings = config.content
    if settings is None:
        return None
    directory = Path(settings.directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ContentError(f"content.directory: {directory}: {error.strerror}") from error
    writer = f"{config.audit.host}-gateway{number}"
    store = Store(directory, writer, site_key(settings), min_free_bytes=settings.min_free_bytes)
    return ContentWriter(
        loop,
        store,
        commit_seconds=settings.commit_milliseconds / 1000,
        max_pending_bytes=settings.max_pending_bytes,
        deadline_seconds=settings.deadline_seconds,
    )
