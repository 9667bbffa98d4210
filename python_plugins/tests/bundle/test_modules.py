"""The modules of import and release against the real importer: check, do, check, do."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from python_plugins.tests import module_call
from python_plugins.tests.bundle.helpers import Maker, Site
from tresor.bundle import importer
from tresor.bundle.machine import Importer, locked


@pytest.fixture
def fresh(maker: Maker) -> Maker:
    """Give a bundle that is good at the real time, on any machine."""
    now = datetime.now(UTC)
    maker.make(
        created=f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        expires=f"{now + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}",
        audience={"site": "*", "arch": ["*"], "os": ["*"]},
    )
    return maker


class Bastion:
    """Runs the modules; their program is the importer of the working tree."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.program = folder / "importer"

    def run(self, name: str, *, check: bool = False, **options: object) -> dict[str, Any]:
        place = {"program": str(self.program), "store": str(self.site.store.root)}
        return module_call.call(name, check=check, **{**place, **options})

    def take(self, maker: Maker, *, check: bool = False, **options: object) -> dict[str, Any]:
        wanted = {"site": "lab", "media": [str(maker.bundle)], "accept_lab": True}
        return self.run(
            "tresor_bundle_import", check=check,
            **{**wanted, "root_sha256": maker.fingerprint, **options},
        )  # fmt: skip

    def release(self, *, check: bool = False, **options: object) -> dict[str, Any]:
        signers = {"allowed_signers": str(self.site.signers)}
        return self.run("tresor_bundle_release", check=check, **{**signers, **options})

    def approve(self) -> None:
        with locked(self.site.store):
            for person, key in self.site.people.items():
                Importer(self.site.store, quiet=True).approve(
                    person, self.site.signers, key=key, signature=None
                )


@pytest.fixture
def bastion(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bastion:
    found = Bastion(site, tmp_path)
    real = basic.AnsibleModule.run_command

    def run(self: Any, command: list[str], **options: Any) -> tuple[int, str, str]:
        if command[0] != str(found.program) or found.program.exists():
            return real(self, command, **options)
        # The importer in this process: starting Python for every call would take a second each.
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            code = importer.main(command[1:])
        return code, said.getvalue(), complained.getvalue()

    monkeypatch.setattr(basic.AnsibleModule, "run_command", run)
    return found


def test_import_and_release_twice_each(bastion: Bastion, fresh: Maker) -> None:
    seen = bastion.take(fresh, check=True)
    assert (seen["changed"], seen["state"]) == (True, "FITS")
    assert not bastion.site.store.root.exists(), "check mode left a trace"
    assert bastion.take(fresh)["state"] == "AWAIT_APPROVAL"
    assert bastion.take(fresh, check=True)["changed"] is False
    assert bastion.take(fresh)["changed"] is False
    refused = bastion.release()
    assert refused["failed"] and refused["rule"] == "approval.count"
    bastion.approve()
    assert bastion.release(check=True)["changed"] is True
    assert not bastion.site.store.current.exists()
    done = bastion.release()
    assert (done["changed"], done["release"]) == (True, "2026.11-1")
    assert bastion.release(check=True)["changed"] is False
    assert bastion.release()["changed"] is False
    assert bastion.take(fresh)["state"] == "ACTIVE"


def test_info_tells_what_waits_and_what_it_changes(bastion: Bastion, fresh: Maker) -> None:
    bastion.take(fresh)
    found = bastion.run("tresor_bundle_info", review=True)
    assert found["changed"] is False and found["current"] == ""
    (waiting,) = found["pending"]
    assert waiting["approved_by"] == []
    page = Path(waiting["report"]).read_text()
    assert "<script" not in page and "2026.11-1" in page
    names = {part["name"] for part in found["difference"]["parts"]}
    assert names == set(fresh.parts)


def test_switch_back_needs_a_kept_release_a_name_and_a_reason(
    bastion: Bastion, fresh: Maker
) -> None:
    bastion.take(fresh)
    bastion.approve()
    bastion.release()
    document = json.loads(next((fresh.bundle / "targets").iterdir()).read_bytes())
    times = {key: document[key] for key in ("created", "expires", "audience")}
    fresh.make(id="2026.11-2", serial=2, **times)
    bastion.take(fresh)
    bastion.approve()
    assert bastion.release()["release"] == "2026.11-2"
    assert bastion.release(release="2026.11-1")["failed"]
    who = {"person": "alice", "reason": "The new model answers too slowly"}
    assert bastion.release(release="2026.11-7", **who)["rule"] == "state.release"
    assert bastion.release(release="2026.11-1", check=True, **who)["changed"] is True
    assert bastion.release(release="2026.11-1", **who)["changed"] is True
    assert str(bastion.site.store.current.readlink()) == "releases/2026.11-1"
    assert bastion.release(release="2026.11-1", **who)["changed"] is False
    assert bastion.site.events()[-1] == "import.rolled_back"


def test_refusals_carry_the_rule(bastion: Bastion, fresh: Maker, tmp_path: Path) -> None:
    (fresh.bundle / "extra").write_bytes(b"")
    for check in (True, False):
        refused = bastion.take(fresh, check=check)
        assert refused["failed"] and refused["rule"] == "medium.extra"
    refused = bastion.run("tresor_bundle_info", program=str(tmp_path / "none"))
    assert refused["rule"] == "environment.importer" and "docs/runbooks/import.md" in refused["msg"]


def test_program_that_says_no_json_is_an_error(bastion: Bastion) -> None:
    bastion.program.write_text("#!/bin/sh\necho all is well\n")
    bastion.program.chmod(0o755)
    assert bastion.run("tresor_bundle_info")["rule"] == "environment.importer"
