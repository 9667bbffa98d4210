"""What chronyc and systemd print is judged as an operator would judge it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from python_plugins.tests.module_call import call, load
from tresor.evidence import trust
from tresor.pki import authority, openssl
from tresor.pki.place import Place

NOW = dt.datetime(2026, 11, 25, 1, 0, tzinfo=dt.UTC)
ALLOWED = ["198.51.100.130", "2001:db8:52::130"]
GOOD = "^,*,198.51.100.130,8,6,377,34,-0.000003,-0.000004,0.000021\n"
TRACKING = (
    "C6336482,198.51.100.130,9,1764032400.1,{offset},{last},0.00001,-8.4,0.0,0.04,0.0002,0.0001,64.4,"
    "{leap}\n"
)


@pytest.mark.parametrize(
    ("printed", "ok", "says"),
    [
        (GOOD, True, "selected 198.51.100.130"),
        (GOOD + "^,-,203.0.113.5,2,6,377,3,0,0,0\n", False, "foreign source 203.0.113.5"),
        (GOOD.replace("*", "?"), False, "no source is selected"),
        ("", False, "no source is selected"),
        ("506 Cannot talk to daemon", False, "not run"),
    ],
)
def test_only_the_companys_servers_are_followed(printed: str, ok: bool, says: str) -> None:
    check = trust.time_sources("gpu1", printed, ALLOWED)
    assert (check.ok, says in check.observed) == (ok, True), check.observed


@pytest.mark.parametrize(
    ("offset", "leap", "ok"),
    [
        ("0.000012", "Normal", True),
        ("-0.9", "Normal", True),
        ("5.2", "Normal", False),
        ("-3601", "Normal", False),
        ("0.0", "Not synchronised", False),
    ],
)
def test_clock_that_is_off_is_seen(offset: str, leap: str, ok: bool) -> None:
    check = trust.clock("gpu1", TRACKING.format(offset=offset, last=0.0, leap=leap))
    assert check.ok is ok
    assert f"{float(offset):+.6f}" in check.observed


def test_error_is_seen_where_the_daemon_may_not_set_the_clock() -> None:
    # As chronyc printed it on a host whose server was five seconds away.
    printed = TRACKING.format(offset="-0.000000007", last="-5.000008106", leap="Normal")
    check = trust.clock("vector1", printed)
    assert not check.ok
    assert "-5.000008" in check.observed


def test_chrony_that_does_not_answer_counts_as_failed() -> None:
    assert not trust.clock("gpu1", "").ok


@pytest.mark.parametrize(
    ("timer", "service", "says"),
    [
        ({"UnitFileState": "enabled", "ActiveState": "active"}, {"Result": "success"}, ""),
        ({"UnitFileState": "disabled", "ActiveState": "active"}, {"Result": "success"}, "disabled"),
        (
            {"UnitFileState": "enabled", "ActiveState": "inactive"},
            {"Result": "success"},
            "inactive",
        ),
        (
            {"UnitFileState": "enabled", "ActiveState": "active"},
            {"Result": "exit-code"},
            "exit-code",
        ),
        (
            {"UnitFileState": "enabled", "ActiveState": "active"},
            {"Result": "exit-code", "ActiveState": "activating", "ExecMainStatus": "5"},
            "",
        ),
        (
            {"UnitFileState": "enabled", "ActiveState": "active"},
            {"Result": "exit-code", "ActiveState": "failed", "ExecMainStatus": "5"},
            "exit-code",
        ),
        ({}, {}, "missing"),
    ],
)
def test_timer_without_good_run_is_seen(
    timer: dict[str, str], service: dict[str, str], says: str
) -> None:
    check = trust.timer("bastion1", "tresor-renew", timer, service)
    assert check.ok is (says == "")
    assert says in check.observed


def test_ended_and_missing_lists_fail(tmp_path: Path) -> None:
    place = Place(tmp_path / "ca", tmp_path / "ca" / "passphrase")
    authority.create(place, "CA", "P-256", dt.timedelta(days=365))
    authority.open_authority(place).write_crl(dt.timedelta(days=1))
    end = openssl.next_update(place.crl.read_text())
    assert trust.revocation_list("a", "/x/ca.crl", end, end - dt.timedelta(seconds=1)).ok
    assert not trust.revocation_list("a", "/x/ca.crl", end, end).ok
    assert not trust.revocation_list("a", "/x/ca.crl", None, NOW).ok


def test_backup_grows_old() -> None:
    day = dt.timedelta(days=1)
    assert trust.backup_age("b", NOW - day, NOW, day).ok
    assert not trust.backup_age("b", NOW - day, NOW + dt.timedelta(seconds=1), day).ok
    assert not trust.backup_age("b", None, NOW, day).ok


def test_module_reports_on_a_host_without_chrony(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("tresor_trust_check")
    monkeypatch.setattr(module, "output", lambda *_: "")
    result = call(
        "tresor_trust_check",
        host="gpu1",
        time_servers=[{"name": "ntp", "ipv4": ALLOWED[0], "ipv6": None}],
        crl_files=[str(tmp_path / "none.crl")],
        optional_crl_files=[str(tmp_path / "absent.pem")],
        bastion=True,
    )
    assert [check["ok"] for check in result["checks"]] == [False] * 4
    assert all(check["id"].startswith("trust.") for check in result["checks"])
    assert result["msg"] == "4 of 4 checks failed"


def test_programs_that_are_missing_print_nothing() -> None:
    module = load("tresor_trust_check")
    assert module.output("/nonexistent/program") == ""
    assert module.output("false") == ""
    assert module.output("echo", "x") == "x\n"
