"""Signed repositories: made with gpg, checked with gpgv as apt does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.package_store import repository
from tresor.package_store.repository import Wanted

pytestmark = pytest.mark.skipif(
    not (shutil.which("gpg") and shutil.which("gpgv")), reason="gpg or gpgv is not installed"
)


def release(root: Path, name: str, packages: bytes) -> Path:
    folder = root / name
    for part in ("debs-debian-12", "debs-debian-13"):
        suite = folder / "tree" / part / "dists/site"
        (suite / "main/binary-amd64").mkdir(parents=True)
        (folder / "tree" / part / "pool").mkdir()
        text = packages if part == "debs-debian-12" else b"stays\n"
        (suite / "main/binary-amd64/Packages").write_bytes(text)
        (suite / "Release").write_bytes(b"Suite: site\nDescription: " + text)
    return folder


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    return Wanted(
        release=release(tmp_path, "r1", b"one\n"),
        repositories={"debian-12": "debs-debian-12", "debian-13": "debs-debian-13"},
        state=tmp_path / "state",
        suite="site",
        key_name="test",
        public_key=tmp_path / "pub/key.asc",
    )


def publish(wanted: Wanted) -> bool:
    plan = repository.plan(wanted)
    if plan.changed:
        repository.apply(wanted, plan)
    return plan.changed


def signed(wanted: Wanted, name: str) -> Path:
    return wanted.state / "apt" / name / "dists/site/InRelease"


def verifies(wanted: Wanted, name: str) -> bool:
    ring = wanted.state.parent / "ring.gpg"
    subprocess.run(
        ["gpg", "--homedir", str(wanted.state / "gnupg"), "--batch", "--yes", "--dearmor",
         "--output", str(ring), str(wanted.public_key)],
        check=True, capture_output=True,
    )  # fmt: skip
    result = subprocess.run(
        ["gpgv", "--keyring", str(ring), str(signed(wanted, name))],
        check=False, capture_output=True,
    )  # fmt: skip
    return result.returncode == 0


def test_repositories_are_signed_once(wanted: Wanted) -> None:
    assert publish(wanted)
    assert verifies(wanted, "debian-12") and verifies(wanted, "debian-13")
    packages = wanted.state / "apt/debian-12/dists/site/main/binary-amd64/Packages"
    assert packages.read_bytes() == b"one\n"
    before = signed(wanted, "debian-12").read_bytes()
    assert not publish(wanted)
    assert signed(wanted, "debian-12").read_bytes() == before


def test_only_a_changed_list_is_signed_again(wanted: Wanted, tmp_path: Path) -> None:
    publish(wanted)
    key = wanted.public_key.read_bytes()
    before = {name: signed(wanted, name).read_bytes() for name in wanted.repositories}
    newer = Wanted(
        **{**{f: getattr(wanted, f) for f in wanted.__dataclass_fields__},
           "release": release(tmp_path, "r2", b"two\n")}
    )  # fmt: skip
    assert publish(newer)
    assert signed(newer, "debian-13").read_bytes() == before["debian-13"]
    assert signed(newer, "debian-12").read_bytes() != before["debian-12"]
    assert verifies(newer, "debian-12")
    assert wanted.public_key.read_bytes() == key
    assert len(list(wanted.state.glob("published-*"))) == 1


def test_changed_signature_does_not_verify(wanted: Wanted) -> None:
    publish(wanted)
    path = signed(wanted, "debian-12")
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    assert not verifies(wanted, "debian-12")


def test_lost_public_key_file_is_written_again(wanted: Wanted) -> None:
    publish(wanted)
    wanted.public_key.unlink()
    assert publish(wanted)
    assert b"BEGIN PGP PUBLIC KEY BLOCK" in wanted.public_key.read_bytes()
    assert not publish(wanted)


def test_release_without_the_part_is_refused(wanted: Wanted) -> None:
    wanted.repositories["debian-14"] = "debs-debian-14"
    with pytest.raises(EnvironmentNotReadyError, match="debs-debian-14"):
        repository.plan(wanted)
    assert not wanted.state.exists()
