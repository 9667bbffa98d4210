"""The content store under its worst days: killed, shared, and in the hands of an operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.content_support import SECRET, content
from services.policy_gateway.tests.killed import Killed, answers
from services.policy_gateway.tests.support import QUESTION, Engine, Issuer, settings
from tresor_gateway.audit.record import ContentRef
from tresor_gateway.content import command
from tresor_gateway.content.crypto import Owner, SiteKey
from tresor_gateway.content.keyring import Keyring, destroy
from tresor_gateway.content.store import Item, Store, read

OWNER = Owner("2026-11-25", "a" * 32)


@pytest.mark.asyncio
async def test_killed_worker_has_the_content_of_every_answer_that_was_complete(
    tmp_path: Path, issuer: Issuer, engines: list[Engine]
) -> None:
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(issuer.key))
    for engine in engines:
        engine.script = answers
    values = settings(tmp_path, [engine.url for engine in engines])
    values["content"] = content(tmp_path, {"keep": "full"})
    # With strict, who has an answer has its record, and the record has its content.
    values["audit"]["strict"] = True
    killed = Killed(tmp_path, issuer.token(), values)
    for seconds in (0.05, 0.1):
        await killed.run(seconds, 8)
    records = killed.records()
    assert len(killed.complete) > killed.streams > 3
    key = SiteKey(SECRET)
    for request_id in killed.complete:
        record = records[request_id]
        owner = Owner(record["time"][:10], record["subject"])
        ref = ContentRef(**record["content"])
        kept = json.loads(read(tmp_path / "content", key, owner, record["id"], ref))
        assert kept["request"]["messages"] == QUESTION["messages"]
        assert "Peru" in kept["answer"]["choices"][0]["content"]


def _use_key(directory: str) -> str:
    ring = Keyring(Path(directory), SiteKey(SECRET))
    with ring.using(OWNER.day):
        return ring.key(OWNER).id.hex()


def test_workers_that_begin_together_share_one_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        ids = set(pool.map(_use_key, [str(tmp_path)] * 16))
    assert len(ids) == 1
    assert [path.name for path in (tmp_path / OWNER.day / "keys").iterdir()] == [
        f"{OWNER.subject}.key"
    ]


def test_destroyed_key_is_overwritten_also_under_the_name_that_a_crash_left(
    tmp_path: Path,
) -> None:
    ring = Keyring(tmp_path, SiteKey(SECRET))
    with ring.using(OWNER.day) as folder:
        ring.key(OWNER)
    [path] = (folder / "keys").iterdir()
    left = path.with_name(f".{OWNER.subject}.4711")
    os.link(path, left)
    with path.open("rb") as still_open:
        assert destroy(folder, OWNER.subject) == 1
        assert set(still_open.read()) == {0}
    assert list((folder / "keys").iterdir()) == []


def test_what_a_crash_left_behind_the_last_frame_is_never_read(tmp_path: Path) -> None:
    store = Store(tmp_path, "w", SiteKey(SECRET), min_free_bytes=0)
    [first] = store.append(OWNER.day, [Item(OWNER, "r1", "full", b"one")])
    store.close()
    with (tmp_path / first.file).open("ab") as stream:
        stream.write(b"TRC1\0\0\1\0half a frame")
    again = Store(tmp_path, "w", SiteKey(SECRET), min_free_bytes=0)
    [second] = again.append(OWNER.day, [Item(OWNER, "r2", "full", b"two")])
    again.close()
    key = SiteKey(SECRET)
    assert read(tmp_path, key, OWNER, "r1", first) == b"one"
    assert read(tmp_path, key, OWNER, "r2", second) == b"two"


def in_unit(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, str]:
    """Secrets as systemd hands them over; the section keys that names them."""
    (folder / "pseudonym").write_bytes(b"p" * 32)
    (folder / "salt").write_bytes(b"s" * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("SUDO_USER", "olga")
    return {"pseudonym_file": "credential:pseudonym", "cache_salt_file": "credential:salt"}


@pytest.mark.asyncio
async def test_operator_shows_erases_and_leaves_a_record_each_time(
    make_site: MakeSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    section = content(tmp_path, {"keep": "full"}) | {"key_file": "credential:content.key"}
    site = await make_site(content=section, keys=in_unit(monkeypatch, tmp_path))
    await site.ask(body=QUESTION)
    await site.stop()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    path = tmp_path / "gateway.yml"
    path.write_text(json.dumps(site.settings))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        options = ["--config", str(path), "--secrets", str(tmp_path)]
        status = command.main([*options, *arguments])
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        return status, *capsys.readouterr()

    [record] = site.decisions()
    day = record["time"][:10]
    _, text, _ = run("show", "--record", record["request_id"], "--reason", "incident 7")
    assert json.loads(text)["request"] == QUESTION
    _, text, _ = run("pseudonym", "--subject", "alice", "--reason", "request 8")
    assert text.strip() == record["subject"]
    erase = ["erase", "--subject", "alice", "--day", day, "--reason", "request 8"]
    assert "keys destroyed: 1" in run(*erase)[1]
    status, text, problem = run("show", "--record", record["id"], "--reason", "incident 7")
    assert (status, text) == (1, "")
    assert "erased" in problem
    assert run("expire") == (0, "removed: nothing\n", "")
    with pytest.raises(SystemExit):
        run("show", "--record", record["id"])
    status, _, problem = run("erase", "--pseudonym", "../../x", "--day", day, "--reason", "r")
    assert status == 1
    assert "32 hex digits" in problem
    uses = [entry for entry in site.records() if entry["type"] == "content"]
    assert [(use["action"], use["outcome"], use["operator"]) for use in uses] == [
        ("show", "done", "olga"),
        ("pseudonym", "done", "olga"),
        ("erase", "begun", "olga"),
        ("erase", "done", "olga"),
        ("show", "failed", "olga"),
    ]
    assert "alice" not in json.dumps(uses)
    assert uses[0]["subject"] == record["subject"]


def test_command_is_part_of_the_audit_tool(tmp_path: Path) -> None:
    source = Path(sys.modules["tresor_gateway"].__file__ or "").parent.parent
    tool = [sys.executable, "-m", "tresor_gateway.audit", "content", "--config", "/none", "expire"]
    env = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(tool, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert "/none: cannot be read" in done.stderr
