"""Host certificates against the site CA."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tresor.evidence.certificates import judge_certificate
from tresor.evidence.check import Check

from .conftest import NOW, Ca


def check(ca_pem: bytes, pem: bytes | None, *names: str) -> Check:
    return judge_certificate(
        "gpu1",
        pem,
        ca_pem,
        names=names or ("gpu1.site.example", "gpu1"),
        addresses=("198.51.100.31", "2001:db8:51:0::31"),
        renew_days=30,
        now=NOW,
    )


def test_a_good_certificate_passes(ca: Ca) -> None:
    result = check(ca.pem, ca.issue())
    assert result.ok, result.observed


def test_one_of_another_ca_with_the_same_name_fails(ca: Ca, new_ca: Callable[[], Ca]) -> None:
    result = check(ca.pem, new_ca().issue())
    assert not result.ok
    assert "not issued by the site CA" in result.observed


@pytest.mark.parametrize(("days", "ok"), [(31, True), (30, False), (3, False)])
def test_one_inside_the_renewal_window_fails(ca: Ca, days: int, ok: bool) -> None:
    assert check(ca.pem, ca.issue(days)).ok is ok


def test_a_missing_name_is_told(ca: Ca) -> None:
    result = check(ca.pem, ca.issue(), "gpu1.site.example", "llm.site.example")
    assert not result.ok
    assert "lacks the names llm.site.example" in result.observed


@pytest.mark.parametrize("pem", [None, b"", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_an_unread_or_broken_certificate_fails(ca: Ca, pem: bytes | None) -> None:
    result = check(ca.pem, pem)
    assert not result.ok
    assert result.observed.startswith("not run: ")
