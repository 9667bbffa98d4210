"""Who may use what: the plan's access rules, for recertification and for questions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tresor_cli.errors import CliError, EnvironmentNotReadyError

_MAX_PLAN_BYTES = 64 << 20
_MAX_TOKEN_BYTES = 16 << 10


@dataclass(frozen=True)
class Rule:
    """One access rule; ``number`` is its place in access.yml, from 1.

    It is about a ``group`` of the identity provider or a service ``account``; the other is empty.
    ``known_by`` says how the account proves itself.
    """

    number: int
    group: str
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    limits: dict[str, int] = field(default_factory=dict)
    account: str = ""
    known_by: tuple[str, ...] = ()

    @property
    def holder(self) -> str:
        """Whom the rule is about, for people."""
        return f"service account {self.account}" if self.account else self.group


@dataclass(frozen=True)
class Access:
    """The rules, and the models by every name they have."""

    rules: tuple[Rule, ...]
    names: dict[str, str]
    tasks: dict[str, str]
    groups_claim: str


@dataclass(frozen=True)
class Decision:
    """What the gateway would say, and the rules that make it say so."""

    allowed: bool
    model: str | None
    rules: tuple[Rule, ...]
    reason: str


_TASKS = {
    "chat.completions": ("chat",),
    "completions": ("chat",),
    "messages": ("chat",),
    "responses": ("chat",),
    "embeddings": ("embedding",),
    "rerank": ("rerank", "embedding"),
}


def load(path: Path) -> Access:
    """Read the plan.

    Raises:
        EnvironmentNotReadyError: there is none, or it is not a plan.
    """
    try:
        with path.open("rb") as stream:
            plan = json.loads(stream.read(_MAX_PLAN_BYTES))["tresor_plan"]
        models = plan["models"]
        return Access(
            rules=tuple(
                Rule(
                    number,
                    rule["group"] if "service_account" not in rule else "",
                    tuple(rule["models"]),
                    tuple(rule["endpoints"]),
                    dict(rule.get("limits", {})),
                    rule.get("service_account", ""),
                    tuple(
                        f"{key} {rule[key]}"
                        for key in ("client_id", "subject", "certificate")
                        if key in rule
                    ),
                )
                for number, rule in enumerate(plan["access"], start=1)
            ),
            names={
                name: model["name"]
                for model in models
                for name in (model["name"], *model.get("aliases", ()))
            },
            tasks={model["name"]: model["task"] for model in models},
            groups_claim=plan["site"]["identity"]["groups_claim"],
        )
    except OSError as error:
        raise EnvironmentNotReadyError(
            f"no plan at {path}: {error.strerror}. Run: tresor plan (or name it with --plan)."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EnvironmentNotReadyError(
            f"{path} is not a resolved plan. Run: tresor plan."
        ) from error


def report(access: Access) -> list[dict[str, Any]]:
    """One entry per group and service account, by name: what it may use, by which rules."""
    holders: dict[tuple[str, str], list[Rule]] = {}
    for rule in access.rules:
        holders.setdefault((rule.account, rule.group), []).append(rule)
    return [
        {
            **({"service_account": account} if account else {"group": group}),
            **({"known_by": [way for rule in rules for way in rule.known_by]} if account else {}),
            "rules": [rule.number for rule in rules],
            "uses": [
                {"model": model, "endpoints": sorted(endpoints)}
                for model, endpoints in sorted(_uses(access, rules).items())
            ],
            "limits": _group_limits(rules),
        }
        for (account, group), rules in sorted(holders.items())
    ]


def explain(
    access: Access,
    groups: Iterable[str],
    model: str,
    endpoint: str | None = None,
    account: str = "",
) -> Decision:
    """Whether someone in ``groups``, or a service account, may use ``model``; by which rules."""
    name = access.names.get(model)
    mine = set(groups) - {""}
    if name is None:
        return Decision(False, None, (), f"there is no model {model!r} in models.yml")
    about = [rule for rule in access.rules if name in rule.models]
    fitting = tuple(
        rule
        for rule in about
        if (rule.group in mine or (rule.account and rule.account == account))
        and _fits(access, rule, name, endpoint)
    )
    if fitting:
        return Decision(True, name, fitting, "allowed")
    holders = sorted({rule.holder for rule in about if _fits(access, rule, name, endpoint)})
    if holders:
        return Decision(
            False, name, (), f"no rule for these groups names it; it takes {' or '.join(holders)}"
        )
    return Decision(False, name, (), "no rule of access.yml allows this to anybody")


def groups_of_token(path: Path, claim: str) -> list[str]:
    """The groups an access token names. Nothing is verified: this only answers what would be.

    Raises:
        CliError: unreadable, or no token.
    """
    try:
        with path.open("rb") as stream:
            token = stream.read(_MAX_TOKEN_BYTES).strip()
        part = token.split(b".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except (IndexError, ValueError, binascii.Error) as error:
        raise CliError(f"{path} holds no access token") from error
    value = claims.get(claim) if isinstance(claims, dict) else None
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def as_text(entries: Sequence[dict[str, Any]]) -> str:
    """The report for people: one line per group, model and its endpoints."""
    lines: list[str] = []
    for entry in entries:
        numbers = ", ".join(str(number) for number in entry["rules"])
        account = entry.get("service_account")
        holder = f"service account {account}" if account else entry["group"]
        known = f", known by {', '.join(entry['known_by'])}" if account else ""
        lines.append(f"{holder} (rule {numbers} of access.yml{known})")
        lines += [f"  {use['model']}: {', '.join(use['endpoints'])}" for use in entry["uses"]]
        limits = ", ".join(f"{name} {value}" for name, value in entry["limits"].items())
        lines.append(f"  limits: {limits or 'none'}")
    return "\n".join(lines)


def _fits(access: Access, rule: Rule, model: str, endpoint: str | None) -> bool:
    usable = _usable(access, rule, model)
    return bool(usable) if endpoint is None else endpoint in usable


def _usable(access: Access, rule: Rule, model: str) -> set[str]:
    """Endpoints of a rule that the model can serve (the list of models is none of them)."""
    task = access.tasks.get(model)
    return {endpoint for endpoint in rule.endpoints if task in _TASKS.get(endpoint, ())}


def _uses(access: Access, rules: Iterable[Rule]) -> dict[str, set[str]]:
    uses: dict[str, set[str]] = {}
    for rule in rules:
        for model in rule.models:
            uses.setdefault(model, set()).update(_usable(access, rule, model))
    return uses


def _group_limits(rules: Sequence[Rule]) -> dict[str, int]:
    """The most generous of the group's own rules, as the gateway counts."""
    names = sorted({name for rule in rules for name in rule.limits})
    return {name: max(rule.limits[name] for rule in rules if name in rule.limits) for name in names}
