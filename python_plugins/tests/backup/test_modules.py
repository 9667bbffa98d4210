"""The three modules: check mode, results, and what they say when something is wrong."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

import pytest

from python_plugins.tests.backup.conftest import Person, put
from python_plugins.tests.module_call import call, load
from tresor.backup import create
from tresor.backup.layout import Roots


@pytest.fixture
def here(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> Roots:
    """Let the modules work on the small bastion."""
    for name in ("tresor_backup", "tresor_restore"):
        module = load(name)
        # Ansible's copy of our module_utils is another module object than tresor's.
        own = module.Roots(roots.configuration, roots.state, roots.store)
        monkeypatch.setattr(module, "Roots", lambda own=own: own)
    return roots


def test_backup_then_restore(here: Roots, people: list[Person], tmp_path: Path) -> None:
    options = {
        "directory": str(tmp_path / "backups"),
        "site": "lab",
        "recipients": [str(people[0].certificate)],
    }
    dry = call("tresor_backup", check=True, **options)
    assert (dry["changed"], dry["backup"]) == (True, "")
    assert not (tmp_path / "backups").exists()
    made = call("tresor_backup", **options)
    assert made["files"] > 5
    assert made["bytes"] > 0
    given = {
        "backup": made["backup"],
        "key": str(people[0].key),
        "site": "lab",
        "manifest_sha256": made["manifest_sha256"],
    }
    (here.configuration / "inventory" / "hosts.yml").unlink()
    changes = [
        call("tresor_restore", check=check, **given)["changed"] for check in (True, False) * 2
    ]
    assert changes == [True, True, False, False]
    assert (here.configuration / "inventory" / "hosts.yml").is_file()
    refused = call("tresor_restore", **{**given, "site": "other"})
    assert refused["failed"]
    assert refused["msg"].startswith("Nothing was restored")


@pytest.mark.parametrize(
    ("more", "says"), [({"recipients": []}, "nobody can open"), ({"keep": 0}, "keep at least 1")]
)
def test_senseless_backup_is_refused(
    here: Roots, people: list[Person], tmp_path: Path, more: dict[str, object], says: str
) -> None:
    options = {"directory": str(tmp_path / "b"), "site": "lab", "recipients": [str(people[0].key)]}
    result = call("tresor_backup", **{**options, **more})
    assert result["failed"]
    assert says in result["msg"]


def test_snapshot_of_growing_logs(tmp_path: Path) -> None:
    put(tmp_path / "audit" / "gateway1-0" / "1.jsonl", '{"a":1}\n{"half')
    options = {"directory": str(tmp_path / "audit"), "dest": str(tmp_path / "out" / "a.tar")}
    options["owner"] = getpass.getuser()
    assert call("tresor_audit_snapshot", check=True, **options)["size"] == 0
    assert call("tresor_audit_snapshot", **options)["size"] > 0
    command = ["tar", "xfO", options["dest"], "audit/gateway1-0/1.jsonl"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text == '{"a":1}\n'
    assert Path(options["dest"]).stat().st_mode & 0o777 == 0o600
    nobody = call("tresor_audit_snapshot", **{**options, "owner": "no-such-user"})
    assert nobody["failed"]


def test_file_that_shrinks_while_it_is_read_stops_the_backup(tmp_path: Path) -> None:
    class Shrinking:
        """A target that empties the source when the archive begins."""

        def __init__(self, source: Path) -> None:
            self.source = source

        def write(self, data: bytes) -> int:
            self.source.write_bytes(b"")
            return len(data)

    big = tmp_path / "big.bin"
    big.write_bytes(b"x" * (1 << 20))
    sources = load("tresor_audit_snapshot").sources
    with pytest.raises(Exception, match="shorter while it was read"):
        create.write_archive(Shrinking(big), sources.tree(tmp_path, "t"))
