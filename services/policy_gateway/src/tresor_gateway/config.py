"""Read and check the configuration: bytes in, a frozen ``Config`` or a ``ConfigError`` out."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from tresor_gateway import config_people, config_sections, config_variants
from tresor_gateway import config_schema as schema
from tresor_gateway.access import TASKS_OF_ENDPOINT
from tresor_gateway.addresses import is_loopback_host, split_address
from tresor_gateway.content import policy as content_policy
from tresor_gateway.errors import ConfigError
from tresor_gateway.yaml_file import read_yaml

MAX_CONFIG_BYTES = 4 << 20
CREDENTIAL_PREFIX = "credential:"


def load(path: Path) -> schema.Config:
    """Read, convert and check the file at ``path``.

    Raises:
        ConfigError: one message per mistake found, each with file, key, value and what to do.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{path}: larger than {MAX_CONFIG_BYTES} bytes; is it the right file?"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> schema.Config:
    """Convert the text of a configuration; ``source`` names it in messages."""
    data = read_yaml(text, source)
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: must be a mapping with the keys {_known(schema.Config)}")
    try:
        config = msgspec.convert(data, type=schema.Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), data)}") from error
    problems = [f"{source}: {problem}" for problem in _check(config)]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def secret_path(value: str) -> Path:
    """The file a secret's setting names; ``credential:NAME`` is systemd's credential NAME."""
    if not value.startswith(CREDENTIAL_PREFIX):
        return Path(value)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError(
            f"{value!r} needs a systemd unit with LoadCredential=; "
            "outside of one write the file's path instead"
        )
    return Path(directory) / value.removeprefix(CREDENTIAL_PREFIX)


# --- messages about types and unknown keys -------------------------------------------------


def _known(section: type[msgspec.Struct]) -> str:
    return ", ".join(sorted(section.__struct_fields__))


def _explain(message: str, data: object) -> str:
    """Turn msgspec's message into key, value seen, what to write."""
    text, _, where = message.rpartition(" - at `$")
    if not text:
        text, where = message, "`"
    key = where.removesuffix("`").lstrip(".")
    unknown = re.search(r"unknown field `([^`]*)`", text)
    if unknown:
        name = unknown.group(1)
        full = f"{key}.{name}".lstrip(".")
        return f"{full}: unknown key; {_suggestion(name)}"
    missing = re.search(r"missing required field `([^`]*)`", text)
    if missing:
        return f"{f'{key}.{missing.group(1)}'.lstrip('.')}: is required; add it"
    return f"{key or 'file'}: {_seen(key, data)}{text[0].lower()}{text[1:]}"


def _suggestion(name: str) -> str:
    sections = [
        item
        for item in vars(schema).values()
        if isinstance(item, type) and issubclass(item, schema.Section)
    ]
    names = {key for section in sections for key in section.__struct_fields__}
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "remove it"


def _seen(key: str, data: object) -> str:
    """The value at ``key`` for the message; nothing when the path is not a plain one."""
    value: Any = data
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ""
    if isinstance(value, (dict, list)):
        return ""
    return f"value {str(value)[:80]!r}: "


# --- checks that types cannot express ----------------------------------------------------


def _check(config: schema.Config) -> Iterator[str]:
    yield from _check_listeners(config)
    yield from _check_identity(config)
    yield from _check_models(config)
    yield from _check_routes(config)
    yield from _check_access(config)
    yield from content_policy.problems(config)
    yield from config_sections.problems(config)
    yield from config_variants.problems(config)
    yield from config_people.check(config)
    limited = any(rule.limits is not None for rule in config.access)
    if config.usage.file is None and limited and config.workers > 1:
        yield "usage.file: is required when access rules have limits and there are several workers"
    upstream = config.upstream
    if upstream.cooldown_max_seconds < upstream.cooldown_seconds:
        yield (
            f"upstream.cooldown_max_seconds: value {upstream.cooldown_max_seconds}: "
            f"must not be below cooldown_seconds ({upstream.cooldown_seconds})"
        )
    if not Path(config.audit.directory).is_absolute():
        yield f"audit.directory: value {config.audit.directory!r}: write an absolute path"
    if config.audit.strict_tenants and config.identity.tenant_claim is None:
        yield "audit.strict_tenants: needs identity.tenant_claim, which says where a tenant stands"


def _check_listeners(config: schema.Config) -> Iterator[str]:
    listen, admin = config.listen, config.admin
    if (listen.sockets is None) == (listen.tcp is None):
        yield "listen: set exactly one of sockets (a directory) and tcp (loopback, stand-alone)"
    if (admin.socket is None) == (admin.tcp is None):
        yield "admin: set exactly one of socket (a path) and tcp (loopback)"
    for key, value in (("listen.tcp", listen.tcp), ("admin.tcp", admin.tcp)):
        if value is not None:
            try:
                split_address(value)
            except ValueError as error:
                yield f"{key}: value {value!r}: {error}; write for example 127.0.0.1:8080"
    for key, value in (("listen.sockets", listen.sockets), ("admin.socket", admin.socket)):
        if value is not None and not Path(value).is_absolute():
            yield f"{key}: value {value!r}: write an absolute path"
    if config.keys is None and (listen.tcp is None or config.workers > 1):
        yield (
            "keys: is required unless one stand-alone worker listens on tcp; name two secret "
            "files of at least 32 bytes (pseudonym_file, cache_salt_file)"
        )
    if config.workers > 1 and listen.tcp is not None and listen.tcp.endswith(":0"):
        yield f"listen.tcp: value {listen.tcp!r}: port 0 works with one worker only"


def _check_identity(config: schema.Config) -> Iterator[str]:
    jwks = config.identity.jwks
    if (jwks.url is None) == (jwks.file is None):
        yield "identity.jwks: set exactly one of url (https) and file"
    if jwks.url is not None:
        parts = _split_url(jwks.url)
        if parts is None or parts.scheme != "https" or not parts.hostname or parts.username:
            yield (
                f"identity.jwks.url: value {jwks.url!r}: "
                "write https://host[:port]/path without credentials"
            )
        if jwks.ca_file is None:
            yield "identity.jwks.ca_file: is required with url; name the CA of the provider"
    elif jwks.crl_file is not None:
        yield "identity.jwks.crl_file: means nothing with file; remove it, or set url"
    revocations = config.identity.revocations
    if revocations is not None and not Path(revocations.file).is_absolute():
        yield f"identity.revocations.file: value {revocations.file!r}: write an absolute path"
    if jwks.max_age_seconds < jwks.refresh_seconds:
        yield (
            f"identity.jwks.max_age_seconds: value {jwks.max_age_seconds}: "
            f"must not be below refresh_seconds ({jwks.refresh_seconds})"
        )


def _split_url(value: str) -> SplitResult | None:
    """The parts of a URL, or none when it is not one."""
    try:
        parts = urlsplit(value)
        # Its number is looked at only here.
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_engine_address(parts: SplitResult) -> bool:
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and parts.port is not None
        and parts.path in ("", "/", "/v1")
        and not parts.query
        and not parts.username
    )


def _check_models(config: schema.Config) -> Iterator[str]:
    taken: dict[str, str] = {}
    trusted: dict[str, str | None] = {}
    tls = False
    for index, model in enumerate(config.models):
        where = f"models[{index}]"
        for name in (model.name, *model.aliases):
            if name in taken:
                yield f"{where}: name {name!r} already belongs to {taken[name]}; names are unique"
            taken[name] = where
        for number, replica in enumerate(model.replicas):
            key = f"{where}.replicas[{number}].url"
            parts = _split_url(replica.url)
            if parts is None or not _is_engine_address(parts):
                yield f"{key}: value {replica.url!r}: write https://host:port"
                continue
            if parts.scheme == "http" and (
                config.listen.tcp is None or not is_loopback_host(parts.hostname or "")
            ):
                yield (
                    f"{key}: value {replica.url!r}: plain http is for loopback engines of a "
                    "stand-alone gateway (listen.tcp) only; write https://host:port"
                )
            tls = tls or parts.scheme == "https"
            if replica.ca_file is not None and parts.scheme == "http":
                yield f"{where}.replicas[{number}].ca_file: means nothing with http; remove it"
            if trusted.setdefault(parts.netloc, replica.ca_file) != replica.ca_file:
                yield (
                    f"{where}.replicas[{number}].ca_file: value {replica.ca_file!r}: another entry "
                    f"has {trusted[parts.netloc]!r} for {parts.netloc}; write the same in both"
                )
    upstream = config.upstream
    if tls and not (upstream.ca_file and upstream.cert_file and upstream.key_file):
        yield "upstream: https engines need ca_file, cert_file and key_file (mutual TLS)"


def _check_routes(config: schema.Config) -> Iterator[str]:
    tasks = {model.name: model.task for model in config.models}
    taken = set(tasks) | {alias for model in config.models for alias in model.aliases}
    for index, model in enumerate(config.models):
        key = f"models[{index}].fallback"
        if model.fallback is not None and tasks.get(model.fallback) != model.task:
            yield f"{key}: value {model.fallback!r}: name another model with task {model.task!r}"
        elif model.fallback == model.name:
            yield f"{key}: value {model.fallback!r}: a model is no fallback of itself"
        if all(replica.weight == 0 for replica in model.replicas):
            yield f"models[{index}].replicas: all weights are 0; give one of them more"
    for index, route in enumerate(config.routes):
        where = f"routes[{index}]"
        if route.name in taken:
            yield f"{where}.name: value {route.name!r}: belongs to a model or another route"
        taken.add(route.name)
        targets = [*(rule.model for rule in route.rules), route.default]
        for name in targets:
            if name not in tasks:
                yield f"{where}: {name!r} is no model; known are {', '.join(sorted(tasks))}"
        if len({tasks[name] for name in targets if name in tasks}) > 1:
            yield f"{where}: its models have different tasks; a route stays within one"


def _check_access(config: schema.Config) -> Iterator[str]:
    tasks = {model.name: model.task for model in config.models}
    for index, rule in enumerate(config.access):
        where = f"access[{index}] ({rule.holder})"
        for name in rule.models:
            if name not in tasks:
                yield f"{where}.models: {name!r} is no model; known are {', '.join(sorted(tasks))}"
        wanted = {tasks[name] for name in rule.models if name in tasks}
        for endpoint in rule.endpoints:
            fitting = TASKS_OF_ENDPOINT.get(endpoint, ())
            if fitting and wanted and wanted.isdisjoint(fitting):
                yield (
                    f"{where}.endpoints: {endpoint!r} fits none of its models "
                    f"(it needs one with task {' or '.join(map(repr, fitting))})"
                )
