"""A site's signed inventory, read by the builder that makes a delta of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from bundle.builder import inventory
from bundle.builder.errors import BuilderError
from python_plugins.tests.bundle.helpers import Maker, Site
from tresor.bundle import holdings, importer
from tresor.bundle.errors import EnvironmentNotReadyError, UsageError
from tresor.bundle.machine import Outcome, locked


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "site-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def export(site: Site, folder: Path, key: Path) -> Outcome:
    with locked(site.store):
        return holdings.export(site.importer(), folder, key)


def signers(key: Path, site: str = "lab") -> Path:
    path = key.with_name("signers")
    path.write_text(
        f'{site} namespaces="{inventory.NAMESPACE}" {key.with_suffix(".pub").read_text()}'
    )
    return path


def test_delta_on_a_signed_inventory_carries_the_new_part_alone(
    site: Site, maker: Maker, key: Path, tmp_path: Path
) -> None:
    maker.make()
    site.full(maker)
    assert export(site, tmp_path, key).state == "EXPORTED"
    assert site.events()[-1] == "store.inventory-exported"
    has = inventory.read(tmp_path / "inventory.json", signers(key))
    assert (has.site, has.serial, has.base["id"]) == ("lab", 1, "2026.11-1")
    stored = {path.name for path in (site.store.root / "blobs").rglob("*") if path.is_file()}
    assert has.blobs == stored
    fresh = b"--- # new\n"
    maker.parts["distribution"][2]["playbooks/new.yml"] = fresh
    maker.make(id="2026.11-2", serial=has.serial + 1, base=dict(has.base))
    for path in (maker.bundle / "blobs").rglob("*"):
        if path.is_file() and path.name in has.blobs:
            path.unlink()
    left = [path for path in (maker.bundle / "blobs").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [hashlib.sha256(fresh).hexdigest()]
    assert site.full(maker).release == "2026.11-2"


def test_inventory_is_the_sites_alone(
    site: Site, maker: Maker, key: Path, tmp_path: Path, ssh_keys: dict[str, Path]
) -> None:
    maker.make()
    site.full(maker)
    export(site, tmp_path, ssh_keys["alice"])
    with pytest.raises(BuilderError, match="is not signed by site 'lab'"):
        inventory.read(tmp_path / "inventory.json", signers(key))
    export(site, tmp_path, key)
    with pytest.raises(BuilderError, match="is not signed by site 'lab'"):
        inventory.read(tmp_path / "inventory.json", signers(key, "bank-2"))


def test_serial_is_above_what_only_waited(
    site: Site, maker: Maker, key: Path, tmp_path: Path
) -> None:
    maker.make()
    site.full(maker)
    maker.make(id="2026.11-7", serial=7)
    site.take(maker)
    export(site, tmp_path, key)
    listing = json.loads((tmp_path / "inventory.json").read_text())
    assert (listing["serial"], listing["bundle"]["id"]) == (7, "2026.11-1")


def test_what_is_not_whole_is_not_signed_for(
    site: Site, maker: Maker, key: Path, tmp_path: Path
) -> None:
    maker.make()
    with pytest.raises(UsageError, match=r"state\.release"):
        export(site, tmp_path, key)
    site.full(maker)
    with pytest.raises(UsageError, match=r"inventory\.key"):
        export(site, tmp_path, tmp_path / "none")
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.write"):
        export(site, tmp_path / "none", key)
    site.store.blob(hashlib.sha256(b"deb").hexdigest()).unlink()
    with pytest.raises(EnvironmentNotReadyError, match=r"state\.content"):
        export(site, tmp_path, key)
    with locked(site.store):
        assert site.importer().scrub()
    with pytest.raises(EnvironmentNotReadyError, match="scrub found damage"):
        export(site, tmp_path, key)
    assert not (tmp_path / "inventory.json").exists()


def test_command_line(site: Site, maker: Maker, key: Path, tmp_path: Path) -> None:
    maker.make()
    site.full(maker)
    words = ["inventory", "--store", site.store.root, "--out", tmp_path, "--key", key, "--json"]
    assert importer.main([str(word) for word in words]) == 0
    assert (tmp_path / "inventory.json.sig").read_text().startswith("-----BEGIN SSH SIGNATURE")
