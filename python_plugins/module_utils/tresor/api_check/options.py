"""The certificate options that checking modules share (fragment ``tresor_client``)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from .client import RequestFailed, client_context


def client_spec() -> dict[str, dict[str, Any]]:
    """Return the part of an argument spec that :func:`contexts` reads."""
    return {
        "ca_file": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "certificate_file": {"type": "path", "default": "/etc/tresor/pki/host.crt"},
        "key_file": {"type": "path", "default": "/etc/tresor/pki/host.key", "no_log": False},
    }


def contexts(params: Mapping[str, Any]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS contexts of a client without a certificate and of one with it.

    Raises:
        RequestFailed: a file is missing or no certificate.
    """
    anonymous = client_context(params["ca_file"])
    certified = client_context(params["ca_file"])
    try:
        certified.load_cert_chain(params["certificate_file"], params["key_file"])
    except (OSError, ssl.SSLError) as error:
        raise RequestFailed(f"{params['certificate_file']}: {error}") from error
    return anonymous, certified
