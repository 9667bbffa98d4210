"""Who may use which model on which endpoint; what no rule allows is denied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tresor_gateway import config_schema as schema
from tresor_gateway.api.endpoints import PUBLIC
from tresor_gateway.usage.limits import Limits, combined

TASKS_OF_ENDPOINT: Final = {endpoint.name: endpoint.tasks for endpoint in PUBLIC if endpoint.tasks}


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
        # Apart from the groups: an IdP's group must never pass for a service account.
        self._accounts: dict[str, list[schema.AccessRule]] = {}
        self._clients: dict[tuple[str, str], str] = {}
        self._certificates: dict[str, str] = {}
        self._tasks = tasks
        for rule in rules:
            if rule.group is not None:
                self._rules.setdefault(rule.group, []).append(rule)
            elif rule.service_account is not None:
                self._add_account(rule.service_account, rule)

    def _add_account(self, account: str, rule: schema.AccessRule) -> None:
        self._accounts.setdefault(account, []).append(rule)
        if rule.client_id is not None:
            self._clients[rule.client_id, rule.subject or rule.client_id] = account
        if rule.certificate is not None:
            self._certificates[rule.certificate] = account

    def account_of_client(self, client: str, subject: str) -> str:
        """The service account behind a token; empty for a person's.

        A client's own token names the client as its subject (RFC 9068, 2.2), or the subject that
        the rule names. A person's token from the same client names the person.
        """
        return self._clients.get((client, subject), "")

    def account_of_certificate(self, names: Iterable[str]) -> str:
        """The one service account that a certificate's names stand for, or empty."""
        found = {account for name in names if (account := self._certificates.get(name))}
        return found.pop() if len(found) == 1 else ""

    def grant(self, groups: Iterable[str], account: str = "") -> Grant:
        """The sum of the rules of ``groups`` and of a service account; what has no rule adds none.

        The account counts as one more group for its limits.
        """
        known = tuple(sorted(group for group in groups if group in self._rules))
        held = [self._rules[group] for group in known]
        if account in self._accounts:
            held.append(self._accounts[account])
        endpoints: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        for rules in held:
            for rule in rules:
                endpoints.update(rule.endpoints)
                pairs.update(
                    (endpoint, model)
                    for endpoint in rule.endpoints
                    for model in rule.models
                    if endpoint not in TASKS_OF_ENDPOINT
                    or self._tasks[model] in TASKS_OF_ENDPOINT[endpoint]
                )
        strict = any(rule.strict for rules in held for rule in rules)
        return Grant(known, frozenset(endpoints), frozenset(pairs), combined(held), strict)
