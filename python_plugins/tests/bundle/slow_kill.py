"""The long form of ``test_kill``: killed at every call that changes a folder or waits for disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.bundle.killing import survives
from python_plugins.tests.bundle.test_kill import complete
from tresor.bundle.layout import Store

MANY = 5_000


def test_import_killed_at_every_call(site: Site, maker: Maker, tmp_path: Path) -> None:
    maker.make()
    for steps in range(MANY):
        target = Site(Store(tmp_path / "killed"), site.signers, site.people)
        done = survives(steps, lambda target=target: target.take(maker), every_call=True)
        assert not target.store.current.exists()
        complete(target, maker)
        shutil.rmtree(target.store.root)
        if done:
            break
    assert steps > 60


def test_activation_killed_at_every_call(site: Site, maker: Maker) -> None:
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
        done = survives(steps, site.activate, every_call=True)
        assert (
            site.store.current / "tree/distribution/playbooks/site.yml"
        ).read_bytes() == b"---\n"
        assert site.activate().release == "2026.11-2"
        complete(site, maker)
        if done:
            break
    assert steps > 40
