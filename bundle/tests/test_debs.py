"""Debian parts: repository files, closure rules, and what happens when the mirror moves on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundle.builder import build as build_module
from bundle.builder import debrepo, debs
from bundle.builder.apt import machine_sources, parse_stanzas
from bundle.builder.blobs import BlobStore
from bundle.builder.build import fetch_all, needed_parts
from bundle.builder.debs import Key, baseline_digest, exact_twins
from bundle.builder.errors import FetchError, GoneError
from bundle.builder.lock import PartLock
from bundle.tests.helpers import Site

CREATED = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
WANT = {
    "name": "debs-debian-12",
    "type": "debs",
    "codename": "bookworm",
    "architecture": "amd64",
    "baseline": {"priorities": ["required"], "packages": ["base"]},
    "packages": ["proxy"],
}


class FakeMirror:
    """A mirror in memory: packages by (name, version), dependencies as in the index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.release = b"release one"
        self.packages: dict[Key, tuple[bytes, str]] = {
            ("base", "1"): (b"base", ""),
            ("tool", "1"): (b"tool", ""),
            ("proxy", "1"): (b"proxy 1", "libproxy (= 1), tool (= 1)"),
            ("libproxy", "1"): (b"libproxy 1", "base"),
        }
        self.installed: set[str] = set()

    def update(self) -> None:
        (self.folder / "InRelease").write_bytes(self.release)

    def releases(self) -> dict[str, Path]:
        return {"bookworm": self.folder / "InRelease"}

    def set_baseline(self, stanzas: Sequence[Mapping[str, str]]) -> None:
        self.installed = {fields["Package"] for fields in stanzas}

    def available(self, priorities: Sequence[str]) -> list[str]:
        return ["tool"] if "required" in priorities else []

    def closure(self, packages: Sequence[str]) -> list[Key]:
        found: set[Key] = set()
        queue = [name for name in packages if name not in self.installed]
        while queue:
            name = queue.pop()
            (key,) = [key for key in self.packages if key[0] == name]
            found.add(key)
            for relation in self.packages[key][1].split(","):
                needed = relation.strip().split(" ")[0]
                if needed and needed not in self.installed:
                    queue.append(needed)
        return sorted(found)

    def show(self, packages: Sequence[Key]) -> dict[Key, dict[str, str]]:
        return {key: self.stanza(key) for key in packages if key in self.packages}

    def stanza(self, key: Key) -> dict[str, str]:
        raw, depends = self.packages[key]
        return {
            "Package": key[0],
            "Version": key[1],
            "Architecture": "amd64",
            "Depends": depends,
            "Filename": f"pool/main/{key[0]}_{key[1]}_amd64.deb",
            "Size": str(len(raw)),
            "SHA256": hashlib.sha256(raw).hexdigest(),
        }

    def download(self, packages: Sequence[Key], folder: Path) -> None:
        for key in packages:
            # apt writes the epoch as %3a; the lock uses the mirror's own file name.
            (folder / f"{key[0]}_1%3a{key[1]}.deb").write_bytes(self.packages[key][0])


@pytest.fixture
def mirror(tmp_path: Path) -> FakeMirror:
    return FakeMirror(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


def names(lock: PartLock) -> list[str]:
    return sorted(f"{entry.name} {entry.version}" for entry in lock.files)


def test_closure_carries_no_baseline_but_its_exact_twins(
    mirror: FakeMirror, store: BlobStore
) -> None:
    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, store)
    assert names(lock) == ["libproxy 1", "proxy 1", "tool 1"], "base is there already"
    assert lock.details["baseline"] == {
        "packages": 2,
        "sha256": baseline_digest([("tool", "1"), ("base", "1")]),
    }
    assert [item["suite"] for item in lock.details["evidence"]] == ["bookworm"]


def test_exact_twins_follow_each_other() -> None:
    found = {("a", "1"): {"Depends": "b (= 2), c (>= 1) | d"}}
    baseline = {
        ("b", "2"): {"Depends": "d (= 3)"},
        ("c", "1"): {"Depends": ""},
        ("d", "3"): {"Pre-Depends": "b (= 2)"},
    }
    assert exact_twins(found, baseline) == [("b", "2"), ("d", "3")]


def test_fetched_packages_are_those_of_the_lock(mirror: FakeMirror, store: BlobStore) -> None:
    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, store)
    debs.fetch(lock, mirror, store)
    assert all(store.has(entry.blob) for entry in lock.files)
    assert not list((store.cache / "tmp").iterdir())


def test_mirror_that_delivers_other_bytes_is_refused(
    mirror: FakeMirror, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, store)

    def tamper(packages: Sequence[Key], folder: Path) -> None:
        for key in packages:
            (folder / f"{key[0]}.deb").write_bytes(b"evil")

    monkeypatch.setattr(mirror, "download", tamper)
    with pytest.raises(FetchError, match="delivered no"):
        debs.fetch(lock, mirror, store)
    assert not any(store.has(entry.blob) for entry in lock.files)


def test_gone_version_names_package_and_command(mirror: FakeMirror, store: BlobStore) -> None:
    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, store)
    mirror.packages[("proxy", "2")] = mirror.packages.pop(("proxy", "1"))
    with pytest.raises(GoneError, match=r"proxy 1 .* lock --upgrade --part debs-debian-12"):
        debs.fetch(lock, mirror, store)


def test_rebuilt_version_under_the_same_number_counts_as_gone(
    mirror: FakeMirror, store: BlobStore
) -> None:
    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, store)
    mirror.packages[("proxy", "1")] = (b"other bytes", "libproxy (= 1)")
    with pytest.raises(GoneError, match="proxy 1"):
        debs.fetch(lock, mirror, store)


def locked_site(
    site: Site, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> dict[str, PartLock]:
    site.write_spec("debs.yml", {"parts": [WANT]})
    importer = {
        "name": "importer",
        "type": "build-environment",
        "python": "3.11",
        "glibc": "2.36",
        "requirements": ["tuf==7.0.1"],
    }
    site.write_spec("build.yml", {"parts": [importer]})
    monkeypatch.setattr(debs, "open_mirror", lambda *_: mirror)
    resolver = site.resolver()
    lock = resolver.resolve(resolver.spec.part("debs-debian-12"), {})
    return {lock.part: lock}


def test_relock_is_refused_unless_asked_for(
    site: Site, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = locked_site(site, mirror, monkeypatch)
    mirror.packages[("proxy", "2")] = mirror.packages.pop(("proxy", "1"))
    with pytest.raises(GoneError):
        fetch_all(site.resolver(), locks, needed_parts(site.resolver(), ("product",)))
    assert "proxy 1" in names(locks["debs-debian-12"])


def test_relock_missing_resolves_afresh_and_says_so(
    site: Site,
    mirror: FakeMirror,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    locks = locked_site(site, mirror, monkeypatch)
    raw, _ = mirror.packages.pop(("proxy", "1"))
    mirror.packages[("proxy", "2")] = (raw + b" fixed", "libproxy (= 1)")
    renewed = fetch_all(
        site.resolver(), locks, needed_parts(site.resolver(), ("product",)), relock_missing=True
    )
    assert renewed == ["debs-debian-12"]
    assert names(locks["debs-debian-12"]) == ["libproxy 1", "proxy 2"]
    assert "RELOCKED for this build only" in capsys.readouterr().err
    assert not site.locks.path("debs-debian-12").exists(), "the repository stays untouched"


def test_newer_release_files_alone_keep_the_packages(
    site: Site,
    mirror: FakeMirror,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    locks = locked_site(site, mirror, monkeypatch)
    before = locks["debs-debian-12"]
    fetch_all(site.resolver(), locks, needed_parts(site.resolver(), ("product",)))
    site.store.path(before.details["evidence"][0]["sha256"]).unlink()
    mirror.release = b"release two"
    mirror.packages[("proxy", "2")] = (b"proxy 2", "")
    with pytest.raises(GoneError, match="release file of bookworm"):
        fetch_all(site.resolver(), locks, needed_parts(site.resolver(), ("product",)))
    renewed = fetch_all(
        site.resolver(), locks, needed_parts(site.resolver(), ("product",)), relock_missing=True
    )
    assert renewed == ["debs-debian-12"]
    assert locks["debs-debian-12"].files == before.files
    assert locks["debs-debian-12"].details["evidence"] != before.details["evidence"]
    assert "release files are newer" in capsys.readouterr().err


def test_relocked_build_carries_the_relock_in_its_id(site: Site, mirror: FakeMirror) -> None:
    from bundle.tests.helpers import HEADER

    lock = debs.resolve(WANT, "sha256:" + "0" * 64, mirror, site.store)
    header = build_module.effective_header(HEADER, {lock.part: lock}, [lock.part], None)
    assert header.id.startswith("2026.11-7+relock.") and header.serial == 7
    assert build_module.effective_header(HEADER, {}, [], None) == HEADER


CONTROL = """Package: {name}
Version: {version}
Architecture: amd64
Maintainer: Nobody <nobody@example.com>
Depends: libc6 (>= 2.36)
Description: what it is
 and more about it
 .
 in two paragraphs
Size: 99
"""


def test_packages_index_is_as_expected() -> None:
    rows = [
        (CONTROL.format(name="zeta", version="1:2"), "pool/zeta_2_amd64.deb", 20, "b" * 64),
        (CONTROL.format(name="alpha", version="1"), "pool/alpha_1_amd64.deb", 10, "a" * 64),
    ]
    text = debrepo.packages_text(rows)
    assert text == debrepo.packages_text(rows[::-1])
    assert text == (
        "Package: alpha\nVersion: 1\nArchitecture: amd64\n"
        "Maintainer: Nobody <nobody@example.com>\nDepends: libc6 (>= 2.36)\n"
        "Description: what it is\n and more about it\n .\n in two paragraphs\n"
        f"Filename: pool/alpha_1_amd64.deb\nSize: 10\nSHA256: {'a' * 64}\n\n"
        "Package: zeta\nVersion: 1:2\nArchitecture: amd64\n"
        "Maintainer: Nobody <nobody@example.com>\nDepends: libc6 (>= 2.36)\n"
        "Description: what it is\n and more about it\n .\n in two paragraphs\n"
        f"Filename: pool/zeta_2_amd64.deb\nSize: 20\nSHA256: {'b' * 64}\n"
    )


def test_release_file_is_as_expected() -> None:
    index = {"main/binary-amd64/Packages": b"index\n"}
    text = debrepo.release_text(index, architecture="amd64", label="debian-12", created=CREATED)
    assert text == (
        "Origin: Tresor\nLabel: debian-12\nSuite: site\nCodename: site\n"
        "Date: Mon, 23 Nov 2026 12:00:00 UTC\nArchitectures: amd64\nComponents: main\n"
        "Description: packages released for this site (debian-12)\nSHA256:\n"
        f" {hashlib.sha256(b'index' + bytes([10])).hexdigest()} 6 main/binary-amd64/Packages\n"
    )


LISTING = """http://m/debian/|bookworm|main|Packages|Debian
http://m/debian/|bookworm|contrib|Packages|Debian
http://m/debian/|bookworm|main|Sources|Debian
http://m/debian/|bookworm-updates|main|Packages|Debian
http://m/security/|bookworm-security|main|Packages|Debian
http://other/|bookworm|main|Packages|Somebody
"""


def test_mirrors_of_the_machine_serve_another_release() -> None:
    found = machine_sources(LISTING, "bookworm", "trixie")
    assert [(source.place, source.suite) for source in found] == [
        ("http://m/debian/", "trixie"),
        ("http://m/debian/", "trixie-updates"),
        ("http://m/security/", "trixie-security"),
    ]


def test_mirrors_are_found_before_the_first_update_of_the_machine() -> None:
    listing = "\n".join(
        line.replace("|Debian", "|$(ORIGIN)")
        for line in LISTING.splitlines()
        if "other" not in line
    )
    assert len(machine_sources(listing, "bookworm", "trixie")) == 3


def test_machine_without_security_mirror_is_refused() -> None:
    listing = "\n".join(line for line in LISTING.splitlines() if "security" not in line)
    with pytest.raises(FetchError, match="'trixie-security'"):
        machine_sources(listing, "bookworm", "trixie")


def test_control_paragraphs_keep_continuation_lines() -> None:
    fields: list[dict[str, Any]] = list(parse_stanzas("A: 1\nB: x\n y\n\n\nA: 2\n"))
    assert fields == [{"A": "1", "B": "x\n y"}, {"A": "2"}]
