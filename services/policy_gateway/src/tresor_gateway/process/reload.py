"""Read the configuration again; a mistake in it leaves everything as it is."""

from __future__ import annotations

import logging
from pathlib import Path

from tresor_gateway import config as configuration
from tresor_gateway.errors import GatewayError
from tresor_gateway.process.worker import Worker

log = logging.getLogger(__name__)


def reload(worker: Worker, path: Path) -> bool:
    """Let ``worker`` decide by the file at ``path``; whether it does now."""
    try:
        worker.reload(configuration.load(path))
    except GatewayError as error:
        log.error("configuration not taken over: %s", error)
        return False
    return True
