"""The mirror comes from the machine's apt; trees are keyed by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import basetree
from lab.basetree import Mirror, parse_proxies, parse_targets, tree_key, tree_path

FETCHED = """\
Debian|bookworm|http://mirror.example.com/debian/
Debian|bookworm-updates|http://mirror.example.com/debian/
Debian-Security|bookworm-security|http://mirror.example.com/security/
Vendor|bookworm|http://vendor.example.com/
"""


def test_mirror_is_read_from_fetched_lists() -> None:
    found = parse_targets(FETCHED)
    assert found == ("http://mirror.example.com/debian", "http://mirror.example.com/security")


def test_vendor_repository_is_never_taken_for_debian() -> None:
    assert parse_targets("Vendor|bookworm|http://vendor.example.com/\n") is None


def test_release_name_decides_before_the_first_update() -> None:
    listing = "|bookworm|http://m.example.com/d\n|bookworm-security|http://m.example.com/s\n"
    assert parse_targets(listing) == ("http://m.example.com/d", "http://m.example.com/s")


def test_installation_disc_is_no_mirror() -> None:
    assert parse_targets("Debian|bookworm|cdrom:[Debian]/\n") is None


def test_security_updates_are_optional() -> None:
    found = parse_targets("Debian|trixie|http://m.example.com/d/\n")
    assert found == ("http://m.example.com/d", None)
    assert "security" not in Mirror("http://m.example.com/d", None).sources("trixie")


def test_sources_name_the_release_with_updates_and_security() -> None:
    lines = Mirror("http://m/d", "http://m/s").sources("trixie").splitlines()
    assert lines == [
        "deb http://m/d trixie main",
        "deb http://m/d trixie-updates main",
        "deb http://m/s trixie-security main",
    ]


def test_proxy_settings_are_passed_on() -> None:
    dump = 'Acquire "";\nAcquire::http::Proxy "http://p.example.com:3128";\nAPT::X "1";\n'
    assert parse_proxies(dump) == ('Acquire::http::Proxy "http://p.example.com:3128"',)


def test_key_changes_with_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree_key("site-bookworm")
    packages = {**basetree._PACKAGES, "site-bookworm": ("nothing",)}
    monkeypatch.setattr(basetree, "_PACKAGES", packages)
    assert tree_key("site-bookworm") != before


def test_trees_of_one_release_have_different_paths() -> None:
    paths = {tree_path(Path("/c"), name) for name in basetree.all_trees()}
    assert len(paths) == len(basetree.all_trees()) == 4
    assert all(path.name.split("-")[0] in {"bookworm", "trixie"} for path in paths)


def test_firewall_programs_are_not_on_the_sites_hosts() -> None:
    for name in ("site-bookworm", "site-trixie"):
        assert not {"iptables", "chrony", "nginx"} & set(basetree._PACKAGES[name])


def test_existing_trees_are_not_built_again(tmp_path: Path) -> None:
    tree_path(tmp_path, "site-trixie").mkdir()
    said: list[str] = []
    paths = basetree.ensure(tmp_path, ["site-trixie"], said.append)
    assert paths == {"site-trixie": tree_path(tmp_path, "site-trixie")}
    assert said == []
