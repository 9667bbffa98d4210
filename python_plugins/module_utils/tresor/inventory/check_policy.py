"""Cross-checks of access, limits, retention and service level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .check_extras import adapter_names
from .document import KeyPath
from .problems import Problem, one_of
from .sources import Sources, mapping, number, text, texts

HIGH_RISK_DAYS: Final = 183
"""Six months: how long a deployer of a high-risk AI system keeps its logs (EU AI Act, 26(6))."""
KINDS: Final = frozenset({"email", "iban", "card", "phone", "ip", "secret"})
"""What guardrails can mask."""
MODERATIONS: Final = "moderations"
"""The kind of classifier that no engine of ours is."""
REDUNDANT_FROM: Final = 99.9
"""Availability in percent that one gateway or one instance cannot promise."""


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together in access, guardrails, retention, slo and the database."""
    yield from _access(sources)
    yield from _limits(sources)
    yield from _retention(sources)
    yield from _content(sources)
    yield from _classifiers(sources)
    yield from _slo(sources)
    yield from _vector(sources)


def _vector(sources: Sources) -> Iterator[Problem]:
    """Milvus Lite has no users and one process: production takes it only if the site says so."""
    site = mapping(sources.value("site"))
    vector = mapping(site.get("vector"))
    if (
        sources.hosts.groups.get("vector")
        and text(site.get("level")) == "production"
        and vector.get("form", "lite") == "lite"
        and vector.get("evaluation") is not True
    ):
        wrong = "Milvus Lite is for evaluation: no users, one process, not for level production"
        fix = "write form: standalone, or add evaluation: true beside form: lite"
        path: KeyPath = ("vector", "form") if "form" in vector else ()
        yield sources.problem("site", path, wrong, fix)


def _access(sources: Sources) -> Iterator[Problem]:
    identity = mapping(mapping(sources.value("site")).get("identity"))
    groups = [name for _, name in texts(identity.get("groups"))]
    models = _model_names(sources)
    seen: dict[str, int] = {}
    for index, rule in sources.entries("access"):
        group = text(rule.get("group"))
        path: KeyPath = (index, "group")
        if group and group not in groups and groups:
            wrong = "unknown IdP group: tresor_site.identity.groups does not have it"
            yield sources.problem("access", path, wrong, one_of(groups, group))
        if group and group in seen:
            wrong = f"stands twice, first as entry {seen[group]}"
            yield sources.problem("access", path, wrong, "put both into one entry")
        if group:
            seen.setdefault(group, index)
        for position, name in texts(rule.get("models")):
            if name not in models and models:
                here: KeyPath = (index, "models", position)
                yield sources.problem("access", here, "unknown model", one_of(models, name))
    yield from _accounts(sources)


def _accounts(sources: Sources) -> Iterator[Problem]:
    """A rule is about a group or a service account, and an account's proofs are its own."""
    proofs = ("client_id", "subject", "certificate")
    owners: dict[tuple[str, str], int] = {}
    for index, rule in sources.entries("access"):
        named = [key for key in ("group", "service_account") if key in rule]
        if len(named) != 1:
            wrong = "names a group and a service account" if named else "says not whom it is about"
            fix = "write group, or service_account, and not both"
            yield sources.problem("access", (index,), wrong, fix)
            continue
        given = [key for key in proofs if key in rule]
        if named == ["group"]:
            for key in given:
                wrong, fix = "belongs to a service account, not to a group", f"remove {key}"
                yield sources.problem("access", (index, key), wrong, fix)
            continue
        if "client_id" not in rule and "certificate" not in rule:
            wrong = "nothing says how the account is known"
            fix = "write client_id, or certificate, or both"
            yield sources.problem("access", (index, "service_account"), wrong, fix)
        if "subject" in rule and "client_id" not in rule:
            wrong, fix = "means nothing without client_id", "write client_id"
            yield sources.problem("access", (index, "subject"), wrong, fix)
        token = f"{text(rule.get('client_id'))} {text(rule.get('subject'))}"
        for key, value in (
            ("service_account", text(rule.get("service_account"))),
            ("client_id", token if "client_id" in rule else ""),
            ("certificate", text(rule.get("certificate"))),
        ):
            first = owners.setdefault((key, value), index) if value else index
            if first != index:
                wrong = f"stands twice, first in entry {first}"
                yield sources.problem("access", (index, key), wrong, "let it stand for one account")


def _limits(sources: Sources) -> Iterator[Problem]:
    limits = mapping(mapping(sources.value("guardrails")).get("limits"))
    tokens = number(limits.get("max_output_tokens"))
    for _, model in sources.entries("models"):
        context = number(model.get("context_tokens"))
        if tokens is None or context is None or model.get("task") != "chat" or tokens < context:
            continue
        wrong = f"the model {text(model.get('name'))} has {context} tokens for prompt and answer"
        fix = f"write less than {context}"
        yield sources.problem("guardrails", ("limits", "max_output_tokens"), wrong, fix)


def _retention(sources: Sources) -> Iterator[Problem]:
    retention = mapping(sources.value("retention"))
    for key in ("decision_days", "security_days"):
        days = number(retention.get(key))
        if retention.get("high_risk") is True and days is not None and days < HIGH_RISK_DAYS:
            wrong = "is too short for a high-risk system (EU AI Act, Article 26(6): six months)"
            fix = f"write {HIGH_RISK_DAYS} or more"
            yield sources.problem("retention", (key,), wrong, fix)


def _content(sources: Sources) -> Iterator[Problem]:
    """What is kept of whom: names that exist, and nothing called masked that is not."""
    rules = mapping(sources.value("retention")).get("content")
    groups = [text(rule.get("group")) for _, rule in sources.entries("access")]
    models = _model_names(sources)
    for index, entry in enumerate(rules if isinstance(rules, list) else []):
        rule = mapping(entry)
        for key, known in (("groups", groups), ("models", models)):
            for position, name in texts(rule.get(key)):
                if name not in known and known:
                    here: KeyPath = ("content", index, key, position)
                    wrong = f"unknown {key.removesuffix('s')}"
                    yield sources.problem("retention", here, wrong, one_of(known, name))
        if rule.get("keep") == "masked":
            bare = _unmasked(mapping(sources.value("guardrails")))
            if bare:
                wrong = f"guardrails.yml lets {', '.join(bare)} pass unmasked, so it would be kept"
                fix = "mask or block it there, or write full"
                yield sources.problem("retention", ("content", index, "keep"), wrong, fix)


def _unmasked(guardrails: Mapping[str, object]) -> list[str]:
    return [
        f"{section}.{kind}"
        for section in ("request", "response")
        for kind, action in mapping(guardrails.get(section)).items()
        if kind in KINDS and action in {"allow", "flag"}
    ]


def _classifiers(sources: Sources) -> Iterator[Problem]:
    """A classifier is a model of the site's engines, or that of a server outside of it."""
    models = _model_names(sources)
    externals = mapping(mapping(sources.value("site")).get("externals"))
    for index, entry in classifiers(sources):
        path: KeyPath = ("classifiers", index)
        name = text(entry.get("model"))
        outside = [key for key in ("external", "ca_file") if key in entry]
        if entry.get("kind") != MODERATIONS:
            for key in outside:
                wrong = "belongs to kind moderations: the site's own engines need neither"
                yield sources.problem("guardrails", (*path, key), wrong, f"remove {key}")
            if name and name not in models and models:
                fix = one_of(models, name)
                yield sources.problem("guardrails", (*path, "model"), "unknown model", fix)
            continue
        if len(outside) < 2:
            wrong = (
                "vLLM has no /v1/moderations, so kind moderations is a server outside of the site"
            )
            fix = "write external (a name of site.yml's externals) and ca_file"
            yield sources.problem("guardrails", (*path, "kind"), wrong, fix)
        if name in models:
            wrong = "is a model of models.yml, and users would see the server outside by that name"
            fix = "name the server's model, or take another kind"
            yield sources.problem("guardrails", (*path, "model"), wrong, fix)
        external = text(entry.get("external"))
        if external and external not in externals:
            fix = one_of(list(externals), external)
            yield sources.problem("guardrails", (*path, "external"), "unknown external", fix)
        elif external and number(mapping(externals[external]).get("port")) is None:
            wrong = "this external has no port"
            fix = f"write port in tresor_site.externals.{external}"
            yield sources.problem("guardrails", (*path, "external"), wrong, fix)


def classifiers(sources: Sources) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Return the classifiers of guardrails.yml with their positions."""
    found = mapping(sources.value("guardrails")).get("classifiers")
    for index, entry in enumerate(found if isinstance(found, list) else []):
        yield index, mapping(entry)


def _model_names(sources: Sources) -> list[str]:
    models: list[str] = []
    for _, model in sources.entries("models"):
        models += [text(model.get("name")), *(alias for _, alias in texts(model.get("aliases")))]
        models += [adapter for _, adapter in adapter_names(model)]
    return models


def _slo(sources: Sources) -> Iterator[Problem]:
    slo = mapping(sources.value("slo"))
    promised = slo.get("availability_percent")
    if isinstance(promised, (int, float)) and promised >= REDUNDANT_FROM:
        for group in ("gateway", "gpu"):
            if len(sources.hosts.groups.get(group, ())) == 1:
                wrong = f"one {group} host cannot promise this"
                fix = f"add a second {group} host, or write less than {REDUNDANT_FROM}"
                yield sources.problem("slo", ("availability_percent",), wrong, fix)
    first, whole = number(slo.get("ttft_p95_ms")), number(slo.get("e2e_p95_ms"))
    if first is not None and whole is not None and first > whole:
        wrong = f"is more than e2e_p95_ms ({whole})"
        yield sources.problem("slo", ("ttft_p95_ms",), wrong, f"write {whole} or less")
