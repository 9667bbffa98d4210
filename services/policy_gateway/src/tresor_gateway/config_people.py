"""Checks of the configuration: service accounts, and the page for people in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tresor_gateway import config_schema as schema
from tresor_gateway.addresses import is_loopback_host, split_address


def check(config: schema.Config) -> Iterator[str]:
    """One message per mistake: key, value seen, what to write."""
    yield from _check_accounts(config)
    yield from _check_portal(config)


def _check_accounts(config: schema.Config) -> Iterator[str]:
    owners: dict[tuple[str, str], str] = {}
    known: set[str] = set()
    for index, rule in enumerate(config.access):
        where = f"access[{index}] ({rule.holder})"
        if (rule.group is None) == (rule.service_account is None):
            yield f"access[{index}]: set exactly one of group and service_account"
            continue
        proofs = (rule.client_id, rule.subject, rule.certificate)
        if rule.service_account is None:
            if any(proof is not None for proof in proofs):
                yield f"{where}: client_id, subject and certificate belong to a service_account"
            continue
        if rule.subject is not None and rule.client_id is None:
            yield f"{where}.subject: means nothing without client_id; add it"
        if rule.certificate is not None and rule.certificate.startswith("DNS:"):
            name = rule.certificate.removeprefix("DNS:")
            if name != name.lower() or "*" in name:
                yield (
                    f"{where}.certificate: value {rule.certificate!r}: "
                    "write one full name in lower case"
                )
        for key, value in (
            ("client_id", rule.client_id and f"{rule.client_id} {rule.subject or ''}"),
            ("certificate", rule.certificate),
        ):
            if value is None:
                continue
            known.add(rule.service_account)
            owner = owners.setdefault((key, value), rule.service_account)
            if owner != rule.service_account:
                yield f"{where}.{key}: value {value.strip()!r}: already belongs to {owner!r}"
    for rule in config.access:
        if rule.service_account is not None and rule.service_account not in known:
            yield (
                f"access ({rule.holder}): nothing says how the account is known; "
                "add client_id or certificate to one of its rules"
            )
            known.add(rule.service_account)


def _check_portal(config: schema.Config) -> Iterator[str]:
    portal = config.portal
    if portal is None:
        return
    if (portal.socket is None) == (portal.tcp is None):
        yield "portal: set exactly one of socket (a path) and tcp (loopback, stand-alone)"
    if portal.tcp is not None:
        try:
            split_address(portal.tcp)
        except ValueError as error:
            yield f"portal.tcp: value {portal.tcp!r}: {error}; write for example 127.0.0.1:8082"
    if portal.socket is not None and not Path(portal.socket).is_absolute():
        yield f"portal.socket: value {portal.socket!r}: write an absolute path"
    if (portal.socket is None) != (config.listen.sockets is None):
        yield "portal: socket belongs to listen.sockets, tcp to listen.tcp; use the same kind"
    if config.identity.revocations is None and (config.workers > 1 or config.listen.tcp is None):
        yield (
            "identity.revocations: is required for a portal unless one stand-alone worker listens "
            "on tcp; name a file that all processes share"
        )
    if "openid" not in portal.scopes:
        yield f"portal.scopes: value {portal.scopes}: must hold 'openid'"
    yield from _check_portal_urls(config, portal)


def _check_portal_urls(config: schema.Config, portal: schema.Portal) -> Iterator[str]:
    tls = False
    for name in ("url", "authorization_endpoint", "token_endpoint", "end_session_endpoint"):
        value = getattr(portal, name)
        if value is None:
            continue
        parts = urlsplit(value)
        plain = parts.scheme == "http" and config.listen.tcp is not None
        if (
            not (parts.scheme == "https" or (plain and is_loopback_host(parts.hostname or "")))
            or not parts.hostname
            or parts.username
            or parts.fragment
            or not value.isascii()
            or not value.isprintable()
            or " " in value
        ):
            yield (
                f"portal.{name}: value {value!r}: write https://host[:port][/path] "
                "(http is for loopback and a stand-alone gateway only)"
            )
        elif name == "url" and (parts.path or parts.query):
            yield f"portal.url: value {value!r}: write it without a path, such as https://host"
        tls = tls or (name == "token_endpoint" and parts.scheme == "https")
    if tls and portal.ca_file is None and config.identity.jwks.ca_file is None:
        yield "portal.ca_file: is required; name the CA of the provider"
