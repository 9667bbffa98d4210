"""The parts of this package by the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tresor_gateway import config_schema as schema
from tresor_gateway.access import AccessTable
from tresor_gateway.identity.authenticator import Authenticator
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.identity.revocations import Revocations
from tresor_gateway.identity.source import FileSource, KeySource, UrlSource
from tresor_gateway.identity.tokens import TokenPolicy, normalise_type
from tresor_gateway.keys import SiteKeys

KEEP_SECONDS: Final = 86_400.0


def open_revocations(config: schema.Config) -> Revocations | None:
    """The list of what was logged out, where the site has one.

    A portal without a file has a list of its own, which one process shares with its worker.

    Raises:
        ConfigError: its file cannot be used.
    """
    settings = config.identity.revocations
    if settings is not None:
        return Revocations(Path(settings.file), keep_seconds=settings.keep_seconds)
    if config.portal is not None:
        return Revocations(None, keep_seconds=KEEP_SECONDS)
    return None


def authenticator(
    identity: schema.Identity,
    store: KeyStore,
    access: AccessTable,
    keys: SiteKeys,
    revocations: Revocations | None,
    *,
    strict_tenants: frozenset[str] = frozenset(),
) -> Authenticator:
    """What verifies tokens by the section ``identity``."""
    return Authenticator(
        store,
        _token_policy(identity),
        access,
        keys,
        cache_seconds=identity.cache_seconds,
        cache_entries=identity.cache_entries,
        revocations=revocations,
        strict_tenants=strict_tenants,
    )


def key_store(jwks: schema.Jwks) -> KeyStore:
    """The provider's signing keys, from where the section says."""
    source: KeySource
    if jwks.file is not None:
        source = FileSource(Path(jwks.file))
    else:
        source = UrlSource(
            jwks.url or "",
            Path(jwks.ca_file or ""),
            jwks.timeout_seconds,
            crl_file=Path(jwks.crl_file) if jwks.crl_file else None,
        )
    return KeyStore(
        source,
        refresh_seconds=jwks.refresh_seconds,
        max_age_seconds=jwks.max_age_seconds,
        cooldown_seconds=jwks.cooldown_seconds,
        cache_file=Path(jwks.cache_file) if jwks.cache_file else None,
    )


def _token_policy(identity: schema.Identity) -> TokenPolicy:
    return TokenPolicy(
        issuer=identity.issuer,
        audience=identity.audience,
        algorithms=frozenset(identity.algorithms),
        types=frozenset(normalise_type(value) for value in identity.token_types),
        groups_claim=identity.groups_claim,
        tenant_claim=identity.tenant_claim,
        skew_seconds=identity.clock_skew_seconds,
    )
