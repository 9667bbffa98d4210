"""Files reach exactly the wanted state, in one run, and only after they were checked."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

ME = {
    "owner": pwd.getpwuid(os.getuid()).pw_name,
    "group": grp.getgrgid(os.getgid()).gr_name,
}


def files(**options: Any) -> dict[str, Any]:
    return call("tresor_files", **options)


def entry(path: Path, content: str = "new\n", **options: Any) -> dict[str, Any]:
    return {"path": str(path), "content": content, **ME, **options}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_check_do_check_do(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old\n")
    (tmp_path / "gone").write_text("")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "stray").write_text("")
    options: dict[str, Any] = {
        "directories": [{"path": str(tmp_path / "new"), "mode": "0750", **ME}],
        "files": [entry(tmp_path / "new" / "file", mode="0600"), entry(tmp_path / "old")],
        "links": [{"path": str(tmp_path / "link"), "target": "/dev/null"}],
        "absent": [str(tmp_path / "gone")],
        "purge": [{"directory": str(tmp_path / "d")}],
    }
    before = sorted(tmp_path.rglob("*"))
    results = []
    for check in (True, False, True, False):
        results.append(files(check=check, **options))
        if len(results) == 1:
            assert sorted(tmp_path.rglob("*")) == before
    assert [result["changed"] for result in results] == [True, True, False, False]
    assert results[0]["changed_paths"] == results[1]["changed_paths"]
    assert len(results[1]["changed_paths"]) == 6
    assert mode(tmp_path / "new") == 0o750
    assert mode(tmp_path / "new" / "file") == 0o600
    assert (tmp_path / "old").read_text() == "new\n"
    assert (tmp_path / "link").readlink() == Path("/dev/null")
    assert list((tmp_path / "d").iterdir()) == []


def test_same_size_other_content_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old\n")
    assert files(files=[entry(tmp_path / "f")])["changed"]


def test_only_the_mode_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("new\n")
    path.chmod(0o666)
    result = files(files=[entry(path)])
    assert result["changed"]
    assert mode(path) == 0o644
    assert "0666" in result["diff"][0]["before"]


def test_refused_content_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    result = files(
        files=[entry(good), entry(bad, "broken", validate="grep -q fine %s")],
    )
    assert result["failed"]
    assert "refuses the new" in result["msg"]
    assert not good.exists()
    assert not bad.exists()
    assert files(files=[entry(bad, "all fine", validate="grep -q fine %s")])["changed"]


def test_validation_runs_in_check_mode(tmp_path: Path) -> None:
    options = {"files": [entry(tmp_path / "f", validate="false %s")]}
    assert files(check=True, **options)["failed"]


def test_purge_keeps_named_managed_and_unmatched_files(tmp_path: Path) -> None:
    for name in ("a.conf", "b.conf", "c.conf", "d.txt"):
        (tmp_path / name).write_text("new\n")
    (tmp_path / "sub.conf").mkdir()
    files(
        files=[entry(tmp_path / "a.conf")],
        purge=[{"directory": str(tmp_path), "pattern": "*.conf", "keep": ["b.conf"]}],
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.conf", "b.conf", "d.txt", "sub.conf"]


def test_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("keep\n")
    link.symlink_to(target)
    files(files=[entry(link)])
    assert target.read_text() == "keep\n"
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"absent": ["{}/dir"]}, "is a directory"),
        ({"files": [{"path": "{}/dir", "content": "", **ME}]}, "is no file"),
        ({"files": [{"path": "{}/no/where", "content": "", **ME}]}, "list it under directories"),
        ({"files": [{"path": "relative", "content": "", **ME}]}, "no absolute path"),
        ({"files": [{"path": "{}/f", "content": "", **ME}], "absent": ["{}/f"]}, "listed twice"),
        ({"files": [{"path": "{}/f", "content": "", "owner": "no-one"}]}, "no-one"),
        ({"files": [{"path": "{}/f", "content": "", **ME, "mode": "rw"}]}, "octal"),
        ({"files": [{"path": "{}/f", "content": "", **ME, "validate": "true"}]}, "'%s' must"),
    ],
)
def test_impossible_wishes_are_named(tmp_path: Path, options: Any, reason: str) -> None:
    (tmp_path / "dir").mkdir()

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return value.replace("{}", str(tmp_path))

    result = files(**fill(options))
    assert result["failed"]
    assert reason in result["msg"]
