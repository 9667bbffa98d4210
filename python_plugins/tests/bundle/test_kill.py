"""kill -9 at every step of journal and events: the same command goes on, nothing half is active."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.bundle.killing import survives, tree_of
from tresor.bundle.layout import Store
from tresor.bundle.machine import locked

MANY = 400  # more steps than a command has


def states(site: Site) -> list[str]:
    """Return the journal's states; reading it also proves that the chain holds."""
    with locked(site.store):
        return [str(record["state"]) for record in site.importer().journal.read()]


def complete(site: Site, maker: Maker) -> None:
    """Do again what the operators would: import, approve twice, activate."""
    if site.take(maker).state == "AWAIT_APPROVAL":
        for person in site.people:
            site.approve(person)
        site.activate()
    tree = tree_of(site.store.current / "tree")
    assert tree == {
        f"{part}/{path}": content
        for part, (_, _, files) in maker.parts.items()
        for path, content in files.items()
    }
    with locked(site.store):
        assert site.importer().verify_store() == []
        site.importer().events.read()
    assert "ACTIVE" in states(site)
    assert not any((site.store.root / "staging").iterdir())


def test_import_killed_at_every_step_of_its_records(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    maker.make()
    seen = set()
    for steps in range(MANY):
        target = Site(Store(tmp_path / f"store-{steps}"), site.signers, site.people)
        done = survives(steps, lambda target=target: target.take(maker))
        assert not target.store.current.exists()
        seen.update(states(target))
        complete(target, maker) if steps % 8 == 0 else target.take(maker)
        shutil.rmtree(target.store.root / "blobs")
        if done:
            break
    assert steps > 12
    assert seen >= {
        "SEEN", "META_VERIFIED", "FITS", "COPYING", "CONTENT_OK", "POLICY_OK", "AWAIT_APPROVAL",
    }  # fmt: skip


def test_activation_killed_at_every_step_of_its_records(site: Site, maker: Maker) -> None:
    maker.make()
    site.full(maker)
    maker.parts["distribution"][2]["playbooks/new.yml"] = b"--- # new\n"
    maker.make(id="2026.11-2", serial=2)
    site.take(maker)
    for person in site.people:
        site.approve(person)
    before = site.store.root.with_name("before")
    shutil.copytree(site.store.root, before, symlinks=True)
    for steps in range(MANY):
        shutil.rmtree(site.store.root)
        shutil.copytree(before, site.store.root, symlinks=True)
        done = survives(steps, site.activate)
        current = json.loads((site.store.current / "release.json").read_bytes())["tresor_release"]
        whole = tree_of(site.store.current / "tree")
        assert ("distribution/playbooks/new.yml" in whole) == (current["id"] == "2026.11-2")
        assert site.activate().release == "2026.11-2"
        complete(site, maker)
        if done:
            break
    assert steps > 4
