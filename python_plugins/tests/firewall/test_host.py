"""The module and the program on the host, on real rules in a network namespace of their own.

systemd is the one thing played: stand-ins write down how they were called. The child process
calls `unshare` itself, so the rules of the machine that runs the tests are never touched.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

HELPER = ROOT / "roles/firewall/files/tresor_firewall.py"

DRIVER = """
import json, os, subprocess, sys
from pathlib import Path
work, root = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(root), str(root / "python_plugins/module_utils")]
os.environ["PATH"] = f"{work}/bin:" + os.environ["PATH"]
from python_plugins.tests.module_call import call, load
module = load("tresor_firewall")
from ansible.module_utils.tresor.firewall import host
host.CONFIG_DIR = work / "etc"
host.RUNTIME_DIR = work / "run"
host.UNIT_DIR = work / "units"
host.HELPER = str(work / "bin/tresor-firewall")
module.uids_of = lambda rules: json.loads((work / "uids.json").read_text())
def helper(*arguments):
    done = subprocess.run([host.HELPER, *arguments], capture_output=True, text=True)
    return {"rc": done.returncode, "out": done.stdout, "err": done.stderr}
def rules(tool="iptables"):
    return host.filter_table(subprocess.run([f"{tool}-save"], capture_output=True, text=True,
                                            check=True).stdout)
def sh(text, data=None):
    subprocess.run(["sh", "-c", text], check=True, input=data, text=True, capture_output=True)
plan = json.loads((work / "plan.json").read_text())
def fw(host="gpu1", check=False, **options):
    if options.get("state") != "absent":
        options.setdefault("rules", plan["hosts"][host]["firewall"])
    return call("tresor_firewall", check=check, **options)
results = []
exec(sys.stdin.read())
print(json.dumps(results))
"""

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "{work}/calls"
case "$*" in
  *is-active*) cat "{work}/active"; exit 3 ;;
  mask*) shift; for unit; do ln -sf /dev/null "{work}/units/$unit"; done ;;
esac
"""

Play = Callable[[str], list[Any]]


@pytest.fixture
def work(tmp_path: Path, plan: dict[str, Any]) -> Path:
    for folder in ("bin", "etc", "run", "units"):
        (tmp_path / folder).mkdir()
    for name in ("systemctl", "systemd-run", "useradd"):
        program = tmp_path / "bin" / name
        program.write_text(STAND_IN.format(work=tmp_path))
        program.chmod(0o755)
    text = HELPER.read_text(encoding="utf-8")
    for old, new in (("/etc/tresor/firewall", "etc"), ("/run/tresor-firewall", "run")):
        assert old in text
        text = text.replace(f'"{old}"', f'"{tmp_path / new}"')
    # The test's own process plays the SSH server that serves the connection.
    text = text.replace('name.startswith("sshd")', f'pid == int(open("{tmp_path}/sshd").read())')
    program = tmp_path / "bin/tresor-firewall"
    program.write_text(text.replace("#!/usr/bin/python3", f"#!{sys.executable}", 1))
    program.chmod(0o755)
    (tmp_path / "active").write_text("inactive\n" * 4)
    (tmp_path / "calls").touch()
    (tmp_path / "sshd").write_text("0")
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "uids.json").write_text(
        '{"root": 0, "_apt": 42, "_chrony": 101, "tresor-siem": 991}'
    )
    return tmp_path


@pytest.fixture
def play(work: Path, kernel: None) -> Play:
    def run(script: str) -> list[Any]:
        command = [sys.executable, "-c", DRIVER, str(work), str(ROOT)]
        done = subprocess.run(
            ["unshare", "--net", "--", *command],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


SSHD_NOW = """
import time
def new_connection():
    # A shell that starts now and calls the program: the youngest "sshd".
    time.sleep(0.05)
    script = f'echo $$ > {work}/sshd; {host.HELPER} confirm "$0"; exit $?'
    done = subprocess.run(["sh", "-c", script, token], capture_output=True, text=True)
    return {"rc": done.returncode, "err": done.stderr}
"""


def test_check_do_check_do(play: Play) -> None:
    changed = play(
        SSHD_NOW
        + """
results.append(fw(check=True)["changed"])
first = fw(); token = first["token"]
results.append(first["changed"])
assert new_connection()["rc"] == 0
results.append(fw(check=True)["changed"])
results.append(fw()["changed"])
"""
    )

    assert changed == [True, True, False, False]


def test_rules_are_kept_by_a_new_connection(play: Play, work: Path) -> None:
    (confirmed,) = play(
        SSHD_NOW
        + """
token = fw()["token"]
assert not list(host.CONFIG_DIR.iterdir()), "nothing may be loaded at boot before it is confirmed"
results.append(new_connection())
"""
    )

    assert confirmed["rc"] == 0, confirmed
    assert sorted(path.name for path in (work / "etc").iterdir()) == ["rules.v4", "rules.v6"]
    assert json.loads((work / "run/last.json").read_text())["result"] == "confirmed"
    assert not (work / "run/pending").exists()
    assert "systemctl stop tresor-firewall-rollback.timer" in (work / "calls").read_text()


def test_old_connection_cannot_confirm(play: Play) -> None:
    answer, still = play(
        """
(work / "sshd").write_text(str(os.getpid()))
token = fw()["token"]
results.append(helper("confirm", token))
results.append(fw(check=True)["changed"])
"""
    )

    assert answer["rc"] == 1
    assert "older than the rules" in answer["err"]
    assert still is True  # it is not converged: the next boot would not load the rules


def test_no_connection_at_all_cannot_confirm(play: Play) -> None:
    (answer,) = play('results.append(helper("confirm", fw()["token"]))')

    assert answer["rc"] == 1
    assert "this is no SSH connection" in answer["err"]


def test_wrong_token_cannot_confirm(play: Play) -> None:
    (answer,) = play('fw(); results.append(helper("confirm", "0" * 32))')

    assert answer["rc"] == 1
    assert "another token" in answer["err"]


def test_timer_is_armed_before_the_rules_are_loaded(play: Play, work: Path) -> None:
    play('results.append(fw(rollback_seconds=33)["token"])')

    (armed,) = [line for line in (work / "calls").read_text().splitlines() if "systemd-run" in line]
    assert "--on-active=33s" in armed
    assert "tresor-firewall rollback" in armed


def test_rollback_brings_the_previous_rules_back(play: Play) -> None:
    before, loaded, after, again = play(
        """
fw(state="prepared")
results.append(rules())
token = fw()["token"]
results.append(rules())
assert helper("rollback", token)["rc"] == 0
results.append(rules())
results.append(helper("rollback", token))
"""
    )

    assert "base:tracking" in before
    assert "drop:in" in loaded
    assert after == before
    assert again["rc"] == 0
    assert "nothing to undo" in again["out"]


def test_rollback_of_the_first_rules_opens_the_host_again(play: Play) -> None:
    assert play('helper("rollback", fw()["token"]); results.append(rules())') == [""]


def test_late_confirmation_is_refused(play: Play) -> None:
    (answer,) = play(
        SSHD_NOW
        + """
token = fw()["token"]
helper("rollback", token)
results.append(new_connection())
"""
    )

    assert answer["rc"] == 1
    assert "no change is pending" in answer["err"]


def test_unconfirmed_change_of_an_earlier_run_is_undone_first(play: Play) -> None:
    first, again, live = play(
        """
fw(state="prepared")
results.append(fw("gateway1", rules={"ipv4": [], "ipv6": []})["token"])
results.append(fw()["token"])
helper("rollback", results[1])
results.append(rules())
"""
    )

    assert first != again
    assert "base:tracking" in live


def test_rules_changed_by_hand_are_put_right(play: Play) -> None:
    changed, live = play(
        SSHD_NOW
        + """
token = fw()["token"]; new_connection()
sh("ip6tables -I OUTPUT -j ACCEPT")
results.append(fw()["changed"])
results.append(rules("ip6tables"))
"""
    )

    assert changed is True
    assert "-A OUTPUT -j ACCEPT" not in live


def test_lost_file_is_written_again_without_loading(play: Play, work: Path) -> None:
    (result,) = play(
        SSHD_NOW
        + """
token = fw()["token"]; new_connection()
(host.CONFIG_DIR / "rules.v6").unlink()
results.append(fw())
"""
    )

    assert result["changed"] is True
    assert "token" not in result
    assert (work / "etc/rules.v6").exists()


def test_rules_that_the_kernel_refuses_change_nothing(play: Play) -> None:
    failed, live = play(
        """
module.uids_of = lambda rules: {"root": 0, "_apt": 42, "_chrony": -5, "tresor-siem": 991}
results.append(fw())
results.append(rules())
"""
    )

    assert failed["failed"]
    assert "iptables-restore" in failed["msg"]
    assert live == ""


def test_missing_user_is_named(play: Play, work: Path) -> None:
    (work / "uids.json").write_text('{"root": 0, "_apt": 42, "tresor-siem": 991}')
    failed, checked = play("results += [fw(), fw(check=True)]")

    assert "whom this host does not have" in failed["msg"]
    assert checked["changed"] is True


def test_tracking_is_started_once_and_other_firewalls_are_masked(play: Play, work: Path) -> None:
    changed = play(
        """
for check in (True, False, True, False):
    results.append(fw(state="prepared", check=check)["changed"])
"""
    )

    assert changed == [True, True, False, False]
    assert sorted(path.name for path in (work / "units").iterdir()) == [
        "firewalld.service",
        "netfilter-persistent.service",
        "nftables.service",
        "ufw.service",
    ]


def test_lacking_user_is_created_before_the_rules_need_it(play: Play, work: Path) -> None:
    (work / "uids.json").write_text('{"root": 0, "_apt": 42, "tresor-siem": 991}')
    results = play('results += [fw(state="prepared", check=True), fw(state="prepared")]')

    assert [result["created"] for result in results] == [["_chrony"], ["_chrony"]]
    calls = [line for line in (work / "calls").read_text().splitlines() if "useradd" in line]
    assert len(calls) == 1
    assert calls[0].endswith(" _chrony")
    assert "--system" in calls[0]


def test_active_firewall_of_another_kind_is_refused(play: Play, work: Path) -> None:
    (work / "active").write_text("inactive\ninactive\nactive\ninactive\n")
    (failed,) = play('results.append(fw(state="prepared"))')

    assert "another firewall is active on this host: nftables" in failed["msg"]


def test_rules_in_another_table_are_refused(play: Play) -> None:
    (failed,) = play(
        """
sh("iptables -t nat -A PREROUTING -p tcp --dport 1 -j REDIRECT --to-ports 2")
results.append(fw(state="prepared"))
"""
    )

    assert "table nat" in failed["msg"]


def test_absent_accepts_everything_and_is_idempotent(play: Play, work: Path) -> None:
    script = "token = fw()['token']; new_connection()\n"
    script += "for check in (True, False, True, False):\n"
    script += "    results.append(fw(state='absent', check=check)['changed'])\n"
    script += "results.append(rules())"
    found = play(SSHD_NOW + script)

    assert found == [True, True, False, False, ""]
    assert not list((work / "etc").iterdir())


def test_boot_loads_the_confirmed_rules(play: Play) -> None:
    before, after, code = play(
        SSHD_NOW
        + """
token = fw()["token"]; new_connection()
results.append([rules(), rules("ip6tables")])
sh("iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -F")
code = helper("load")["rc"]
results.append([rules(), rules("ip6tables")])
results.append(code)
"""
    )

    assert before == after
    assert code == 0


def test_boot_without_usable_rules_leaves_only_ssh_open(play: Play) -> None:
    answer, live, live6 = play(
        """
(host.CONFIG_DIR / "rules.v4").write_text("nonsense")
results.append(helper("load"))
results.append(rules())
results.append(rules("ip6tables"))
"""
    )

    assert answer["rc"] == 1
    assert "loading emergency rules" in answer["err"]
    for text in (live, live6):
        assert ":INPUT DROP" in text
        assert ":OUTPUT DROP" in text
        assert "emergency:ssh" in text
        assert "flow:" not in text


# A program of one family that refuses to load; everything else goes to the real one.
REFUSE = """
def refuse(tool):
    path = work / "bin" / f"{tool}-restore"
    path.write_text("#!/bin/sh\\necho no room >&2\\nexit 1\\n")
    path.chmod(0o755)
    return path
"""


@pytest.mark.parametrize("refused", ["ip6tables", "iptables"])
def test_boot_closes_both_families_when_one_takes_no_rules_at_all(play: Play, refused: str) -> None:
    other = "iptables" if refused == "ip6tables" else "ip6tables"
    answer, closed, confirmed = play(
        SSHD_NOW
        + REFUSE
        + f"""
token = fw()["token"]; new_connection()
for tool in ("iptables", "ip6tables"):
    sh(f"{{tool}} -F; for chain in INPUT FORWARD OUTPUT; do {{tool}} -P $chain ACCEPT; done")
refuse("{refused}")
results += [helper("load"), rules("{refused}"), rules("{other}")]
"""
    )

    assert answer["rc"] == 1
    assert "dropping everything by policy" in answer["err"]
    assert closed == ":INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n"
    assert "flow:ssh" in confirmed


def test_boot_with_an_unreadable_file_still_loads_the_other_family(play: Play) -> None:
    answer, live, live6 = play(
        SSHD_NOW
        + """
token = fw()["token"]; new_connection()
sh("iptables -F; ip6tables -F")
(host.CONFIG_DIR / "rules.v6").write_bytes(b"\\xff\\xfe")
results += [helper("load"), rules(), rules("ip6tables")]
"""
    )

    assert answer["rc"] == 1
    assert "flow:ssh" in live
    assert "emergency:ssh" in live6


@pytest.mark.parametrize("refused", ["ip6tables", "iptables"])
def test_rollback_tries_both_families_and_can_be_tried_again(play: Play, refused: str) -> None:
    other = "iptables" if refused == "ip6tables" else "ip6tables"
    token, failed, left, undone, late, again, now = play(
        SSHD_NOW
        + REFUSE
        + f"""
token = fw()["token"]
stand_in = refuse("{refused}")
results += [token, helper("rollback", token), rules("{refused}"), rules("{other}")]
results.append(new_connection())
stand_in.unlink()
results += [helper("rollback", token), rules("{refused}")]
"""
    )

    assert failed["rc"] == 1
    assert "no room" in failed["err"]
    assert f"tresor-firewall rollback {token}" in failed["err"]
    assert "drop:in" in left
    assert undone == ""
    assert late["rc"] == 1, "what is half undone must not be confirmed"
    assert again["rc"] == 0
    assert now == ""


def test_rollback_that_fails_is_tried_again_by_its_unit(play: Play, work: Path) -> None:
    play("fw()")

    calls = (work / "calls").read_text().splitlines()
    (armed,) = [line for line in calls if line.startswith("systemd-run")]
    assert "--property=Restart=on-failure" in armed
    assert "--property=RestartSec=10s" in armed
    # One that waits for its next attempt would keep the name from the next timer.
    assert "systemctl stop tresor-firewall-rollback.timer tresor-firewall-rollback.service" in calls


def test_status_says_which_rules_are_loaded(play: Play) -> None:
    found = play(
        SSHD_NOW
        + """
def loaded():
    results.append(json.loads(helper("status")["out"])["loaded"])
loaded()
token = fw()["token"]; loaded()
new_connection(); loaded()
sh("iptables -I OUTPUT -j ACCEPT"); loaded()
helper("load"); loaded()
(host.CONFIG_DIR / "rules.v6").write_text("nonsense"); helper("load"); loaded()
"""
    )

    pairs = [(entry["iptables"], entry["ip6tables"]) for entry in found]
    assert pairs == [
        ("other", "other"),
        ("unconfirmed", "unconfirmed"),
        ("confirmed", "confirmed"),
        ("other", "confirmed"),
        ("confirmed", "confirmed"),
        ("confirmed", "emergency"),
    ]


TWO_CONFIRMED = (
    SSHD_NOW
    + """
def live():
    return [rules(), rules("ip6tables")]
token = fw("gateway1", rules=plan["hosts"]["gpu1"]["firewall"])["token"]; new_connection()
first = live()
token = fw(rules={"ipv4": [], "ipv6": []})["token"]; new_connection()
second = live()
assert first[0] != second[0] and first[1] != second[1]
"""
)


def test_previous_brings_the_rules_confirmed_before_back_for_good(play: Play) -> None:
    answer, loaded, booted, toggled = play(
        TWO_CONFIRMED
        + """
results.append(helper("previous"))
results.append(live() == first)
helper("load")
results.append(live() == first)
helper("previous")
results.append(live() == second)
"""
    )

    assert answer["rc"] == 0, answer
    assert (loaded, booted, toggled) == (True, True, True)


def test_previous_survives_that_the_same_rules_are_confirmed_again(play: Play) -> None:
    (loaded,) = play(
        TWO_CONFIRMED
        + """
sh("iptables -I OUTPUT -j ACCEPT")
token = fw(rules={"ipv4": [], "ipv6": []})["token"]; new_connection()
helper("previous")
results.append(live() == first)
"""
    )

    assert loaded is True


@pytest.mark.parametrize("broken", ["v4", "v6"])
def test_previous_that_cannot_be_loaded_changes_nothing(play: Play, broken: str) -> None:
    answer, same, kept = play(
        TWO_CONFIRMED
        + f"""
(host.CONFIG_DIR / "previous.{broken}").write_text("nonsense")
before = {{path.name: path.read_text() for path in host.CONFIG_DIR.iterdir()}}
results.append(helper("previous"))
results.append(live() == second)
results.append({{path.name: path.read_text() for path in host.CONFIG_DIR.iterdir()}} == before)
"""
    )

    assert answer["rc"] == 1
    assert (same, kept) == (True, True)


def test_previous_goes_back_when_only_one_family_could_be_loaded(play: Play) -> None:
    # The check passes and the loading fails: IPv6 is loaded by then.
    answer, same = play(
        TWO_CONFIRMED
        + """
path = work / "bin/iptables-restore"
path.write_text('#!/bin/sh\\n[ "$1" = --test ] && exit 0\\necho no room >&2\\nexit 1\\n')
path.chmod(0o755)
results.append(helper("previous"))
results.append(live() == second)
"""
    )

    assert answer["rc"] == 1
    assert "no room" in answer["err"]
    assert same is True


def test_previous_without_earlier_rules_says_so(play: Play) -> None:
    answer, same = play(
        SSHD_NOW
        + """
token = fw()["token"]; new_connection()
before = rules()
results.append(helper("previous"))
results.append(rules() == before)
"""
    )

    assert answer["rc"] == 1
    assert "no other rules were confirmed on this host before" in answer["err"]
    assert same is True


def test_previous_during_a_change_points_to_the_rollback(play: Play) -> None:
    token, answer = play('token = fw()["token"]; results += [token, helper("previous")]')

    assert answer["rc"] == 1
    assert f"tresor-firewall rollback {token}" in answer["err"]


def test_absent_forgets_the_previous_rules_too(play: Play, work: Path) -> None:
    found = play(
        TWO_CONFIRMED
        + """
fw(state="absent")
results += [path.name for path in host.CONFIG_DIR.iterdir()]
"""
    )

    assert found == []


def test_counters_can_be_read(play: Play) -> None:
    (answer,) = play(
        """
fw()
sh("ip link set lo up; ip link add v0 type veth peer name v1; ip addr add 198.51.100.31/25 dev v0;"
   "ip link set v0 up; ip link set v1 up")
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    sender.sendto(b"x", ("198.51.100.99", 53))
except PermissionError:
    pass  # how the kernel tells the sender that OUTPUT dropped the packet
results.append(helper("counters"))
"""
    )

    counted = json.loads(answer["out"])
    assert counted["ipv4"]["drop:out"]["packets"] == 1
    assert counted["ipv6"]["flow:ssh"]["packets"] == 0


def test_peer_must_greet_as_an_ssh_server(play: Play) -> None:
    silent, greeting = play(
        """
import socket, threading
sh("ip link set lo up")
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
lines = [b"220 mail\\r\\n", b"SSH-2.0-test\\r\\n"]
def serve():
    for line in lines:
        connection, _ = server.accept()
        connection.sendall(line)
        connection.close()
threading.Thread(target=serve, daemon=True).start()
token = fw()["token"]
for _ in lines:
    results.append(helper("confirm", token, "--peer", f"127.0.0.1:{port}"))
"""
    )

    assert silent["rc"] == 1
    assert "no SSH greeting" in silent["err"]
    assert greeting["rc"] == 0, greeting


def test_unit_without_its_program_fails_instead_of_being_skipped() -> None:
    unit = ROOT / "roles/firewall/templates/etc/systemd/system/tresor-firewall.service.j2"
    text = unit.read_text(encoding="utf-8")

    assert "AssertPathExists={{ __firewall_helper }}" in text
    assert "Condition" not in text


def test_runbook_names_commands_and_times_that_exist() -> None:
    page = (ROOT / "docs/runbooks/converge.md").read_text(encoding="utf-8")
    defaults = (ROOT / "roles/firewall/defaults/main.yml").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"firewall_rollback_seconds: (\d+)", defaults)

    assert f"wait {seconds} s" in page
    verbs = set(re.findall(r"/usr/local/sbin/tresor-firewall ([a-z]+)", page))
    assert {"status", "previous"} <= verbs
    help_text = subprocess.run(
        [sys.executable, str(HELPER), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(verb in help_text for verb in verbs)


def test_module_and_program_agree_on_paths() -> None:
    from tresor.firewall import host

    text = HELPER.read_text(encoding="utf-8")
    for value in (host.CONFIG_DIR, host.RUNTIME_DIR, host.ROLLBACK_UNIT):
        assert f'"{value}"' in text
