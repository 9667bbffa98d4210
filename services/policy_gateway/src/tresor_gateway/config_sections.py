"""What cannot be expressed by types in the sections classifiers and traces."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from tresor_gateway import config_schema as schema
from tresor_gateway.addresses import is_loopback_host


def problems(config: schema.Config) -> Iterator[str]:
    """What is wrong, one message each."""
    yield from _classifiers(config)
    yield from _traces(config)


def _classifiers(config: schema.Config) -> Iterator[str]:
    tasks = {model.name: model.task for model in config.models}
    taken: set[str] = set()
    for index, classifier in enumerate(config.classifiers):
        where = f"classifiers[{index}]"
        wanted = "moderation" if classifier.kind == "moderations" else "chat"
        if tasks.get(classifier.model) != wanted:
            yield f"{where}.model: value {classifier.model!r}: name a model with task {wanted!r}"
        if classifier.model in taken:
            yield f"{where}.model: value {classifier.model!r}: already is a classifier"
        taken.add(classifier.model)
        if not (classifier.request or classifier.response):
            yield f"{where}: judges neither request nor response; remove it"
        if (classifier.kind == "instruct") != bool(classifier.policies):
            yield (
                f"{where}.policies: kind 'instruct' needs them (code: what is unsafe), "
                "the other kinds bring their own"
            )


def _traces(config: schema.Config) -> Iterator[str]:
    settings = config.traces
    if settings is None:
        return
    parts = urlsplit(settings.endpoint)
    try:
        valid = bool(parts.hostname) and parts.port is not None and not parts.username
    except ValueError:
        valid = False
    if parts.scheme not in ("http", "https") or not valid or not parts.path.strip("/"):
        yield (
            f"traces.endpoint: value {settings.endpoint!r}: write https://host:port/v1/traces, "
            "a collector of the site"
        )
    elif parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        yield f"traces.endpoint: value {settings.endpoint!r}: plain http is for loopback only"
    if parts.scheme == "https" and settings.ca_file is None:
        yield "traces.ca_file: is required with https; name the CA of the collector"
    if (settings.cert_file is None) != (settings.key_file is None):
        yield "traces: cert_file and key_file belong together; set both or none"
