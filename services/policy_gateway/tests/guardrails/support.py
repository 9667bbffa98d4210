"""Policies and values for the guardrails' tests; every value is made up or from documentation."""

from __future__ import annotations

from functools import cache

from tresor_gateway.guardrails.inspector import Inspector
from tresor_gateway.guardrails.pipeline import Pipeline
from tresor_gateway.guardrails.policy import KINDS, Action, DirectionPolicy, Policy
from tresor_gateway.guardrails.screening import Screen

FAR = 1e12
PRIVATE_KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq+3Yx\nabcDEF0123/+==\n"
    "-----END RSA PRIVATE KEY-----"
)
VALUES = {
    "email": ["anna.kovalova@example.org", "jörg.müller+shop@büro.example.de", "a@b.de"],
    "phone": [
        "+420 601 234 567",
        "+49 (0)30 / 1234567",
        "030/1234567",
        "0171 69138526",
        "(905) 674-3793",
        "+41 44 668 18 00",
    ],
    "card": [
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "378282246310005",
        "６０１１０００９９０１３９４２４",
        "4111\u200b1111 1111\u00a01111",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "de89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "NO93 8601 1117 947",
    ],
    "ip": ["192.0.2.17", "2001:db8::17:a", "2001:db8:0:1:1:1:1:1"],
    "secret": [
        "ghp_" + "aB3dE5" * 6,
        "sk-proj-abcDEF1234567890abcdefgh",
        "AKIAIOSFODNN7ABCDEFG",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.SflKxwRJSMeKKF2QT4fwpM",
        PRIVATE_KEY,
    ],
}
PLANTED = [(kind, value) for kind, values in VALUES.items() for value in values]


@cache
def inspector() -> Inspector:
    return Inspector(frozenset(KINDS))


@cache
def screen() -> Screen:
    return Screen()


def rules(text: str) -> set[str]:
    return inspector().inspect(text, screen=screen()).rules


def found(text: str) -> list[tuple[str, str]]:
    spans = inspector().inspect(text).spans
    return [(span.kind, text[span.start : span.end]) for span in spans]


@cache
def pipeline(
    request: Action = "mask", response: Action = "mask", injection: Action = "allow"
) -> Pipeline:
    def all_kinds(action: Action) -> dict[str, Action]:
        return dict.fromkeys(KINDS, action)

    return Pipeline(
        Policy(
            request=DirectionPolicy(all_kinds(request), injection),
            context=DirectionPolicy(all_kinds(request), injection),
            response=DirectionPolicy(all_kinds(response)),
            deadline_seconds=FAR,
        )
    )
