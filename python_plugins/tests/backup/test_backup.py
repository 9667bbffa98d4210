"""A backup holds what cannot be made again, opens for its recipients, and comes back as it was."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_plugins.tests.backup.conftest import Person, make_authority, put
from python_plugins.tests.pki.test_authority import csr
from tresor.backup import create, layout, restore, seal, sources
from tresor.backup.errors import RefusedError, SealError, SourceError
from tresor.backup.layout import Roots
from tresor.pki import authority
from tresor.pki.names import identity
from tresor.pki.place import Place

NOW = dt.datetime(2026, 11, 24, 23, 59, 0, tzinfo=dt.UTC)


@pytest.fixture
def back_up(roots: Roots, tmp_path: Path, people: list[Person]) -> Callable[..., Path]:
    def make(now: dt.datetime = NOW, **more: object) -> Path:
        wanted = create.Wanted(
            directory=tmp_path / "backups",
            site="lab",
            recipients=(people[0].certificate, people[1].certificate),
            part_bytes=8192,
        )
        return create.create(replace(wanted, **more), roots, now)[0]  # type: ignore[arg-type]

    return make


def wanted(backup: Path, person: Person, **more: object) -> restore.Wanted:
    base = restore.Wanted(backup=backup, key=person.key, site="lab")
    return replace(base, **more)  # type: ignore[arg-type]


def issue(roots: Roots) -> None:
    place = Place(roots.authority, roots.authority / "passphrase")
    granted = identity(["gpu1.site.example", "gpu1"], [], ["client"])
    authority.open_authority(place).sign(
        "gpu1", [authority.Request("host", csr(), granted)], dt.timedelta(days=1)
    )


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("who", [0, 1])
def test_wiped_bastion_comes_back_as_it_was(
    roots: Roots, back_up: Callable[..., Path], people: list[Person], who: int
) -> None:
    before = everything(roots.configuration)
    backup = back_up()
    assert len(list(backup.glob("part-*.cms"))) > 1, "the test wants several parts"
    shutil.rmtree(roots.configuration)
    shutil.rmtree(roots.state / "plan")
    result = restore.restore(wanted(backup, people[who]), roots)
    assert everything(roots.configuration) == before
    assert (roots.state / "plan" / "plan.json").read_text() == "{}"
    assert (result.aside / "store" / "state" / "journal.jsonl").is_file()
    assert not restore.restore(wanted(backup, people[who]), roots).changed
    assert not list(roots.state.glob(".restore-*"))


def test_keys_stay_encrypted_and_contents_of_the_store_stay_out(
    roots: Roots, back_up: Callable[..., Path], tmp_path: Path, people: list[Person]
) -> None:
    backup = back_up(part_bytes=seal.PART_BYTES)
    assert b"pseudonym" not in b"".join(path.read_bytes() for path in backup.iterdir())
    clear = tmp_path / "clear.tar"
    seal.unseal(backup / "part-0001.cms", people[0].key, None, clear)
    listed = subprocess.run(["tar", "tf", clear], capture_output=True, text=True, check=True).stdout
    assert "store/state/highwater.json" in listed
    assert "blobs" not in listed
    assert "store/state/lock" not in listed
    assert b"ENCRYPTED" in clear.read_bytes()


def test_nobody_else_can_open_it(
    roots: Roots, back_up: Callable[..., Path], people: list[Person]
) -> None:
    backup = back_up()
    before = everything(roots.configuration)
    with pytest.raises(SealError, match="no recipient's key"):
        restore.restore(wanted(backup, people[2]), roots)
    assert everything(roots.configuration) == before


def test_growing_log_is_cut_at_its_last_full_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text('{"a":1}\n{"a":2}\n{"a":')
    plain = tmp_path / "plain.txt"
    plain.write_text("no line end")
    with log.open("rb") as stream:
        assert sources.stable_length(log, stream.fileno()) == 16
    with plain.open("rb") as stream:
        assert sources.stable_length(plain, stream.fileno()) == 11


def test_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "t" / "file", "x")
    (tmp_path / "t" / "link").symlink_to("/etc/shadow")
    os.mkfifo(tmp_path / "t" / "pipe")
    assert [source.name for source in sources.tree(tmp_path / "t", "t")] == ["t/file"]


@pytest.mark.parametrize("place", [0, 500, 5000])
def test_damaged_part_is_refused_before_anything_is_written(
    roots: Roots, back_up: Callable[..., Path], people: list[Person], place: int
) -> None:
    backup = back_up()
    part = backup / "part-0001.cms"
    content = bytearray(part.read_bytes())
    content[place] ^= 1
    part.write_bytes(content)
    shutil.rmtree(roots.configuration)
    with pytest.raises(RefusedError, match="missing or damaged"):
        restore.restore(wanted(backup, people[0]), roots)
    # The same with a manifest that was made to fit: openssl itself finds it.
    manifest = json.loads((backup / layout.MANIFEST).read_bytes())
    manifest["parts"][0]["sha256"] = seal.sha256_of(part)
    (backup / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SealError, match="damaged"):
        restore.restore(wanted(backup, people[0]), roots)
    assert not roots.configuration.exists()


def test_missing_part_is_refused(
    back_up: Callable[..., Path], roots: Roots, people: list[Person]
) -> None:
    backup = back_up()
    manifest = json.loads((backup / layout.MANIFEST).read_bytes())
    manifest["parts"] = manifest["parts"][:1]
    (backup / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RefusedError, match="damaged"):
        restore.restore(wanted(backup, people[0]), roots)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "import the release"),
        ({"id": "../x"}, "damaged"),
        ({"format": "x"}, "damaged"),
        ({"authority": None}, "differ about the certificate authority"),
        ({"highwater": {"serial": 99}}, "high-water mark"),
        ({"site": "other"}, "site 'other', this site is 'lab'"),
    ],
)
def test_unfit_manifest_is_refused(
    roots: Roots,
    back_up: Callable[..., Path],
    people: list[Person],
    change: dict[str, object],
    reason: str,
) -> None:
    backup = back_up()
    path = backup / layout.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    shutil.rmtree(roots.configuration)
    with pytest.raises(RefusedError, match=reason):
        restore.restore(wanted(backup, people[0]), roots)
    assert not roots.configuration.exists()


def test_noted_digest_of_the_manifest_is_accepted(
    roots: Roots, back_up: Callable[..., Path], people: list[Person]
) -> None:
    backup = back_up()
    noted = seal.sha256_of(backup / layout.MANIFEST).upper()
    result = restore.restore(wanted(backup, people[0], manifest_sha256=noted), roots)
    assert all(path.is_relative_to(result.aside) for path in result.changed)
    with pytest.raises(RefusedError, match="forged"):
        restore.restore(wanted(backup, people[0], manifest_sha256="0" * 64), roots)


def test_newer_high_water_mark_is_not_overwritten_without_a_word(
    roots: Roots, back_up: Callable[..., Path], people: list[Person]
) -> None:
    backup = back_up()
    put(roots.highwater, json.dumps({"serial": 7}))
    with pytest.raises(RefusedError, match="serial 7, the backup only 6"):
        restore.restore(wanted(backup, people[0]), roots)
    assert json.loads(roots.highwater.read_text())["serial"] == 7
    restore.restore(wanted(backup, people[0], accept_older=("highwater",)), roots)
    assert json.loads(roots.highwater.read_text())["serial"] == 6


def test_authority_that_has_issued_more_is_not_overwritten_without_a_word(
    roots: Roots, back_up: Callable[..., Path], people: list[Person]
) -> None:
    backup = back_up()
    issue(roots)
    with pytest.raises(RefusedError, match="issued 1 certificates, the backup knows 0"):
        restore.restore(wanted(backup, people[0]), roots)
    restore.restore(wanted(backup, people[0], accept_older=("authority",)), roots)


def test_younger_authority_is_not_overwritten_without_a_word(
    roots: Roots,
    back_up: Callable[..., Path],
    people: list[Person],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup = back_up()
    saved = (roots.authority / "ca.crt").read_bytes()
    shutil.rmtree(roots.authority)
    monkeypatch.setattr(authority, "_BACKDATE", dt.timedelta(seconds=-5))
    make_authority(roots)
    with pytest.raises(RefusedError, match="authority here is newer"):
        restore.restore(wanted(backup, people[0]), roots)
    restore.restore(wanted(backup, people[0], accept_older=("authority",)), roots)
    assert (roots.authority / "ca.crt").read_bytes() == saved


def test_dry_run_verifies_and_writes_nothing(
    roots: Roots, back_up: Callable[..., Path], people: list[Person]
) -> None:
    backup = back_up()
    shutil.rmtree(roots.configuration)
    result = restore.restore(wanted(backup, people[0]), roots, dry=True)
    assert roots.configuration / "inventory" / "hosts.yml" in result.changed
    assert not roots.configuration.exists()


def test_private_key_among_the_recipients_is_refused(
    back_up: Callable[..., Path], people: list[Person], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(people[0].certificate.read_text() + people[0].key.read_text())
    for path, reason in ((both, "private key"), (tmp_path / "none.pem", "cannot be read")):
        with pytest.raises(SealError, match=reason):
            back_up(recipients=(path,))
    assert layout.complete(tmp_path / "backups") == []


def test_import_under_way_and_missing_directory_stop_the_backup(
    roots: Roots, back_up: Callable[..., Path], tmp_path: Path
) -> None:
    with (roots.store / "state" / "lock").open("rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(SourceError, match="import is under way"):
            back_up()
    with pytest.raises(SourceError, match="no such directory"):
        back_up(extra=(tmp_path / "nowhere",))
    assert [path.name for path in (tmp_path / "backups").iterdir()] == []


def test_audit_and_further_directories_are_laid_aside(
    roots: Roots, back_up: Callable[..., Path], people: list[Person], tmp_path: Path
) -> None:
    put(tmp_path / "incoming" / "gateway1.tar", "archive")
    put(tmp_path / "vectors" / "c.json", "vectors")
    backup = back_up(audit=tmp_path / "incoming", extra=(tmp_path / "vectors",))
    result = restore.restore(wanted(backup, people[0]), roots)
    assert (result.aside / "audit" / "gateway1.tar").read_text() == "archive"
    assert (result.aside / f"extra{tmp_path}" / "vectors" / "c.json").read_text() == "vectors"


def test_oldest_backups_go_and_unfinished_ones_do_not_count(
    back_up: Callable[..., Path], tmp_path: Path
) -> None:
    made = [back_up(now=NOW + dt.timedelta(seconds=number)) for number in range(3)]
    (tmp_path / "backups" / "20261124T235959Z").mkdir()
    assert create.prune(tmp_path / "backups", 2) == [made[0].name]
    assert layout.complete(tmp_path / "backups") == made[1:]
