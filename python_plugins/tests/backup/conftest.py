"""A small bastion below a temporary folder, and two people who can open its backups."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tresor.backup.layout import Roots
from tresor.pki import authority
from tresor.pki.place import Place


@dataclass(frozen=True)
class Person:
    """A recipient: certificate and private key."""

    certificate: Path
    key: Path


def make_person(folder: Path, name: str) -> Person:
    folder.mkdir(exist_ok=True)
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-noenc", "-keyout", key, "-out", certificate, "-days", "30", "-subj", f"/CN={name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return Person(certificate, key)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[Person]:
    folder = tmp_path_factory.mktemp("people")
    return [make_person(folder, name) for name in ("safe", "deputy", "stranger")]


def make_authority(roots: Roots) -> authority.Authority:
    place = Place(roots.authority, roots.authority / "passphrase")
    authority.create(place, "Test CA", "P-256", dt.timedelta(days=365))
    opened = authority.open_authority(place)
    opened.write_crl(dt.timedelta(days=30))
    return opened


def put(path: Path, content: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    roots = Roots().below(tmp_path / "bastion")
    make_authority(roots)
    put(roots.configuration / "secrets" / "gateway" / "pseudonym.key", "pseudonym", 0o400)
    put(roots.configuration / "inventory" / "hosts.yml", "all: {}\n")
    put(roots.highwater, json.dumps({"serial": 6}), 0o600)
    put(roots.store / "state" / "trusted-tuf" / "root.json", "{}", 0o600)
    put(roots.store / "state" / "journal.jsonl", '{"state":"ACTIVE"}\n')
    put(roots.store / "state" / "lock", "123\n")
    put(roots.store / "blobs" / "aa" / "x", "a model")
    put(roots.store / "releases" / "2026.11-6" / "receipt.json", "{}")
    put(roots.state / "plan" / "plan.json", "{}")
    put(roots.state / "runs" / "20261124T000000Z-abcdef" / "record.json", "{}")
    return roots
