"""The TLS context towards engines: our certificate, their CA, their name."""

from __future__ import annotations

import ssl

from tresor_gateway import config_schema as schema
from tresor_gateway.config import secret_path
from tresor_gateway.errors import ConfigError


def client_context(upstream: schema.Upstream) -> ssl.SSLContext | None:
    """A context for mutual TLS; none when no certificate is configured (plain loopback only).

    Raises:
        ConfigError: a file is missing or does not fit the others.
    """
    if not (upstream.ca_file and upstream.cert_file and upstream.key_file):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cafile=upstream.ca_file)
        context.load_cert_chain(upstream.cert_file, str(secret_path(upstream.key_file)))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"upstream: ca_file {upstream.ca_file}, cert_file {upstream.cert_file}, key_file "
            f"{upstream.key_file}: {error}; check that they exist, are readable and belong together"
        ) from error
    return context
