"""Which group may use which model on which endpoint; what no rule allows is denied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tresor_gateway import config_schema as schema
from tresor_gateway.usage.limits import Limits, combined

TASK_OF_ENDPOINT = {
    "chat.completions": "chat",
    "completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "embeddings": "embedding",
    "rerank": "rerank",
}


@dataclass(frozen=True)
class Grant:
    """What the union of someone's groups may do."""

    groups: tuple[str, ...]
    endpoints: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    limits: Limits
    # Whether an answer's last byte waits for its record.
    strict: bool = False

    def may_use_endpoint(self, endpoint: str) -> bool:
        """Whether any rule names the endpoint."""
        return endpoint in self.endpoints

    def may_use_model(self, endpoint: str, model: str) -> bool:
        """Whether one rule names both."""
        return (endpoint, model) in self.pairs

    @property
    def models(self) -> frozenset[str]:
        """Every model that is usable on some endpoint: what ``GET /v1/models`` shows."""
        return frozenset(model for endpoint, model in self.pairs if endpoint != "models")


class AccessTable:
    """The access rules, ready for questions."""

    def __init__(self, rules: Iterable[schema.AccessRule], tasks: dict[str, str]) -> None:
        self._rules: dict[str, list[schema.AccessRule]] = {}
        self._tasks = tasks
        for rule in rules:
            self._rules.setdefault(rule.group, []).append(rule)

    def grant(self, groups: Iterable[str]) -> Grant:
        """The sum of the rules of ``groups``; groups without a rule add nothing."""
        known = tuple(sorted(group for group in groups if group in self._rules))
        endpoints: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        for group in known:
            for rule in self._rules[group]:
                endpoints.update(rule.endpoints)
                pairs.update(
                    (endpoint, model)
                    for endpoint in rule.endpoints
                    for model in rule.models
                    if TASK_OF_ENDPOINT.get(endpoint, self._tasks[model]) == self._tasks[model]
                )
        limits = combined(self._rules[group] for group in known)
        strict = any(rule.strict for group in known for rule in self._rules[group])
        return Grant(known, frozenset(endpoints), frozenset(pairs), limits, strict)
