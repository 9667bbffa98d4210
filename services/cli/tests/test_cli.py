"""The operator's command: refusals, the run record, and a real run of a tiny playbook."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from tresor_cli import record
from tresor_cli.cli import main

PLAYBOOK = """---
- name: Say something
  hosts: all
  gather_facts: false
  tasks:
    - name: Report a change
      ansible.builtin.debug:
        msg: hello
      changed_when: {changed}
"""


@pytest.fixture
def site(tmp_path: Path) -> list[str]:
    project = tmp_path / "store" / "tree" / "distribution"
    (project / "playbooks" / "operate").mkdir(parents=True)
    (project / "ansible.cfg").write_text("[defaults]\n")
    (project / "playbooks" / "site.yml").write_text(PLAYBOOK.format(changed="true"))
    (project / "playbooks" / "operate" / "drain.yml").write_text(PLAYBOOK.format(changed="false"))
    (tmp_path / "store" / "release.json").write_text('{"tresor_release": {"id": "2026.11-1"}}')
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {one: {ansible_connection: local}}}\n")
    places = {"--project": project, "--inventory": inventory, "--runs-dir": tmp_path / "runs"}
    return [str(part) for option in places.items() for part in option]


def runs(tmp_path: Path) -> list[dict[str, object]]:
    return record.read_all(tmp_path / "runs")


def test_run_leaves_events_and_a_summary(site: list[str], tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    assert main([*site, "converge", "--quiet", "--summary-json", str(summary)]) == 0
    (entry,) = runs(tmp_path)
    assert entry == json.loads(summary.read_text())
    assert (entry["release"], entry["changed"], entry["rc"]) == ("2026.11-1", 1, 0)
    events = list((tmp_path / "runs").glob("*/artifacts/*/job_events/*.json"))
    assert any("Report a change" in path.read_text() for path in events)


def test_converge_of_one_host_resolves_the_plan_first(site: list[str], tmp_path: Path) -> None:
    plan = Path(site[1], "playbooks", "plan.yml")
    plan.write_text(PLAYBOOK.format(changed="false"))
    assert main([*site, "converge", "--quiet", "--", "--limit", "one"]) == 0
    assert sorted(str(entry["playbook"]) for entry in runs(tmp_path)) == ["plan.yml", "site.yml"]


def test_converge_of_one_host_stops_at_a_bad_plan(site: list[str], tmp_path: Path) -> None:
    Path(site[1], "playbooks", "plan.yml").write_text("- hosts: [\n")
    assert main([*site, "converge", "--quiet", "--", "-l", "one"]) != 0
    assert [entry["playbook"] for entry in runs(tmp_path)] == ["plan.yml"]


def test_day_two_verbs_are_found_in_their_folder(site: list[str], tmp_path: Path) -> None:
    assert main([*site, "run", "operate/drain.yml", "--quiet"]) == 0
    assert runs(tmp_path)[0]["changed"] == 0


def test_failing_playbook_gives_its_exit_code(site: list[str], tmp_path: Path) -> None:
    Path(site[1], "playbooks", "site.yml").write_text("- hosts: [\n")
    assert main([*site, "converge", "--quiet"]) != 0
    assert runs(tmp_path)[0]["status"] == "failed"


@pytest.mark.parametrize("name", ["nope.yml", "../../release.json", "/etc/hostname"])
def test_playbook_outside_the_release_is_refused(
    name: str, site: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*site, "run", name]) == 4
    assert "It has: operate/drain.yml, site.yml" in capsys.readouterr().err
    assert runs(tmp_path) == []


def test_converge_before_import_says_what_is_missing(
    site: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(tmp_path / "none"), *site[2:], "converge"]) == 4
    assert "Import a bundle" in capsys.readouterr().err


def test_second_run_at_the_same_time_is_refused(
    site: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([*site, "converge"]) == 5
    assert "another run holds" in capsys.readouterr().err


def test_oldest_runs_are_pruned_first(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    assert record.prune(tmp_path, 2) == ["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"]


def test_killed_run_is_listed_as_died(
    site: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "20261123T000000Z-aaaaaa").mkdir(parents=True)
    assert main([*site, "runs"]) == 0
    assert "died" in capsys.readouterr().out


def test_keys_are_the_importers_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "importer"
    monkeypatch.setattr("tresor_cli.cli.DEFAULT_IMPORTER", program)
    assert main(["keys", "show", "1.root.json"]) == 4
    assert "importer.pyz keys" in capfd.readouterr().err
    program.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    program.chmod(0o755)
    assert main(["keys", "sign", "draft", "--key", "k", "--yes"]) == 3
    assert capfd.readouterr().out == "keys sign draft --key k --yes\n"
