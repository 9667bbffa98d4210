"""Module options that say where the store is and who we are; documented once, in the fragment
``tresor_store`` (python_plugins/doc_fragments).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .client import Connection


def connection_spec() -> dict[str, dict[str, Any]]:
    """Return the part of an argument spec that :func:`connection` reads."""
    return {
        "store_url": {"type": "str"},
        "ca_cert": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "client_cert": {"type": "path", "default": "/etc/tresor/pki/host.crt"},
        "client_key": {"type": "path", "default": "/etc/tresor/pki/host.key"},
    }


def connection(params: Mapping[str, Any]) -> Connection:
    """Return the connection that a module's parameters describe."""
    return Connection(
        url=params["store_url"],
        ca_cert=Path(params["ca_cert"]),
        client_cert=Path(params["client_cert"]),
        client_key=Path(params["client_key"]),
    )
