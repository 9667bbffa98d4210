"""Stage vector-standalone: the lab's vector host serves with the real Milvus server.

Needs bastion and vector host alone. Begins with form lite and leaves it so.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from stages import boot, operate, site_import
from stages.shell import REPOSITORY, StageError, on_host, output, put, run

_SITE: Final = "/etc/tresor/inventory/group_vars/all/site.yml"
_SOURCE: Final = REPOSITORY / "inventories" / "lab" / "group_vars" / "all" / "site.yml"
_LOAD: Final = "/run/vector_load.py"
_PASSWORD: Final = "/etc/tresor/secrets/milvus/root-password"  # noqa: S105 # a path
_ROOT: Final = ("--user", "root", "--password-file", _PASSWORD)
_BACKUP: Final = "standalone-test"
_BACKUPS: Final = "/var/lib/tresor/backups/vector"
_DISTRIBUTION: Final = "/srv/tresor/store/current/tree/distribution"
_ROWS: Final = 100_000
_HOSTS: Final = ("--limit", "bastion1,vector1")
_BOOTED: Final = ("router1", "company1", "vector1", "bastion")
_UNITS: Final = ("tresor-milvus", "tresor-milvus-watch", "tresor-milvus-entry")
_COMMAND: Final = ("tresor",)
_GUARD_SECONDS: Final = 15.0
"""The server reads its configuration again within ten."""


def site(form: str) -> bytes:
    """Return the lab's site.yml with the wanted form of the vector database."""
    text = _SOURCE.read_text(encoding="utf-8")
    before = "vector:\n    form: lite\n"
    if text.count(before) != 1:
        raise StageError(f"{_SOURCE}: expected once: {before!r}")
    return text.replace(before, f"vector:\n    form: {form}\n").encode()


def switch(form: str, command: tuple[str, ...] = _COMMAND) -> float:
    """Converge bastion and vector host with ``form``; return the seconds."""
    put("bastion", _SITE, site(form))
    began = time.monotonic()
    operate.tresor("converge", what=f"converge as {form}", ansible=_HOSTS, command=command)
    return time.monotonic() - began


def load(*arguments: str, user: tuple[str, ...] = _ROOT) -> subprocess.CompletedProcess[str]:
    """Run the load script on the bastion; return the finished process."""
    line = ["/opt/tresor/vector-client/current/bin/python", "-I", _LOAD, *arguments, *user]
    return subprocess.run(
        on_host("bastion", *line),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip


def answer(*arguments: str) -> dict[str, Any]:
    """Run the load script, which must succeed; return what it says."""
    done = load(*arguments)
    if done.returncode:
        raise StageError(f"vector_load {arguments} failed: {done.stderr[-2000:]}")
    content: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return content


def refuse(what: str, *arguments: str, user: tuple[str, ...] = ()) -> None:
    """Run the load script, which must be refused."""
    if load(*arguments, user=user).returncode == 0:
        raise StageError(f"{what} was let in")
    print(f"refused as it must be: {what}", flush=True)


def wait_up(seconds: float = 300.0) -> float:
    """Wait until the server answers; return the seconds it took."""
    began = time.monotonic()
    while load("has", "load").returncode:
        if time.monotonic() > began + seconds:
            raise StageError(f"the vector database does not answer after {seconds:.0f} s")
        time.sleep(1)
    return time.monotonic() - began


def _same(found: dict[str, Any]) -> None:
    again = answer("search", "load", f"--count={_ROWS}")
    if (again["rows"], again["ids_sha256"]) != (_ROWS, found["ids_sha256"]):
        raise StageError(f"other rows than before: {again}, before {found}")


def _on_server(*command: str, what: str) -> str:
    return output(on_host("vector1", *command), what=what)


def _closed_ports() -> None:
    listening = _on_server("ss", "-Hltn", what="list the listening ports")
    ports = {line.split()[3].rpartition(":")[2] for line in listening.splitlines() if line.strip()}
    unwanted = ports & {"2379", "2380", "13333", "19529", "19531", "21121", "21123", "53100"}
    if unwanted:
        raise StageError(f"the server's internal ports are open on the host: {sorted(unwanted)}")
    done = subprocess.run(
        on_host("vector1", "curl", "-sf", "-o", "/dev/null", "--max-time", "5",
                "http://127.0.0.1:9091/api/v1/health"),
        stdin=subprocess.DEVNULL, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        raise StageError("the management API answers on the host")
    page = _on_server("curl", "-sf", "http://127.0.0.1:9091/metrics", what="read the metrics")
    if "milvus_rootcoord_collection_num" not in page:
        raise StageError("the server's own metrics are missing on 127.0.0.1:9091")


def _verify_checks() -> int:
    """Have verify's own module judge the real server from the bastion; return its checks."""
    options = {
        "source": "bastion1", "host": "vector1", "server_name": "vector1.site.example",
        "user": "root",
    }  # fmt: skip
    ansible = '"$(dirname "$(readlink -f "$(command -v tresor)")")/ansible"'
    call = f"exec {ansible} bastion1 --become -m tresor_vector_check -a '{json.dumps(options)}'"
    as_json = ("ANSIBLE_LOAD_CALLBACK_PLUGINS=1", "ANSIBLE_STDOUT_CALLBACK=ansible.posix.json")
    said = output(
        on_host("bastion", "env", *as_json, "sh", "-c", f"cd {_DISTRIBUTION} && {call}"),
        what="run verify's checks of the vector database",
    )
    result = json.loads(said)["plays"][0]["tasks"][0]["hosts"]["bastion1"]
    failed = [check for check in result["checks"] if not check["ok"]]
    if failed or not result["checks"]:
        raise StageError(f"verify's checks fail on the real server: {failed or result}")
    return len(result["checks"])


def prove(command: tuple[str, ...] = _COMMAND) -> dict[str, Any]:
    """Prove users, mutual TLS, rows after restart and kill, backup and restore; return figures."""
    put("bastion", _LOAD, (Path(__file__).parent / "vector_load.py").read_bytes())
    figures: dict[str, Any] = {"first_answer_seconds": wait_up()}
    refuse("the default password", "has", "x", user=("--user", "root", "--password", "Milvus"))
    refuse("no user", "has", "x")
    refuse("no certificate", "has", "x", "--no-certificate", user=_ROOT)
    _closed_ports()
    figures["verify_checks"] = _verify_checks()
    figures |= answer("fill", "load", f"--count={_ROWS}")
    found = answer("search", "load", f"--count={_ROWS}")
    if found["rows"] != _ROWS or found["own_first"] != found["queries"]:
        raise StageError(f"not all rows are found: {found}")
    figures |= found
    _on_server("systemctl", "restart", "tresor-milvus.service", what="restart the server")
    figures["restart_seconds"] = wait_up()
    _same(found)
    _on_server("systemctl", "kill", "-s", "KILL", "tresor-milvus.service", what="kill the server")
    time.sleep(1)
    figures["kill_seconds"] = wait_up()
    _same(found)
    _guard()
    run(on_host("bastion", "rm", "-rf", f"{_BACKUPS}/{_BACKUP}"), what="remove an older backup")
    began = time.monotonic()
    _operate("backup", command, collection="load", backup=_BACKUP)
    figures["backup_seconds"] = round(time.monotonic() - began, 1)
    answer("drop", "load")
    began = time.monotonic()
    _operate("restore", command, backup=_BACKUP)
    figures["restore_seconds"] = round(time.monotonic() - began, 1)
    _same(found)
    main_pid = _on_server(
        "systemctl", "show", "-p", "MainPID", "--value", "tresor-milvus.service", what="find it"
    ).strip()
    # The unit's main process only stays in front of the server.
    child = _on_server("pgrep", "-P", main_pid, what="find the server").split()[0]
    memory = _on_server("grep", "VmHWM", f"/proc/{child}/status", what="read its memory")
    figures["memory_peak_kb"] = int(memory.split()[1])
    figures["exposure"] = {unit: _exposure(unit) for unit in _UNITS}
    loose = {unit: value for unit, value in figures["exposure"].items() if value > 2}
    if loose:
        raise StageError(f"units with an exposure above 2: {loose}")
    answer("drop", "load")
    return figures


def _guard() -> None:
    """Have the guard find too little space: nothing is inserted, everything is found."""
    unit = "/etc/systemd/system/tresor-milvus-watch.service"
    line = _on_server("grep", "^ExecStart=", unit, what="read the watch's command").split()
    line[line.index("--minimum-free") + 1] = str(10**15)
    text = f"[Service]\nExecStart=\n{' '.join(line)}\n"
    folder = "/run/systemd/system/tresor-milvus-watch.service.d"
    put("vector1", f"{folder}/full.conf", text.encode())
    insert = ("insert-one", "load", f"--count={_ROWS}")
    again = "systemctl daemon-reload && systemctl restart tresor-milvus-watch.service"
    try:
        _on_server("sh", "-c", again, what="restart the watch")
        time.sleep(_GUARD_SECONDS)
        refuse("a row while the disk is full", *insert, user=_ROOT)
        answer("search", "load", f"--count={_ROWS}")
    finally:
        run(on_host("vector1", "sh", "-c", f"rm -r {folder} && {again}"), what="take it back")
    time.sleep(_GUARD_SECONDS)
    answer(*insert)
    # The row that the guard let in again goes, so that the others can be counted.
    answer("delete-one", "load", f"--count={_ROWS}")


def _exposure(unit: str) -> float:
    said = _on_server(
        "systemd-analyze", "security", "--no-pager", f"{unit}.service", what="judge the sandbox"
    )
    return float(said.strip().splitlines()[-1].split(":")[1].split()[0])


def _operate(verb: str, command: tuple[str, ...], **options: str) -> None:
    extra = [
        word for name, value in options.items() for word in ("-e", f"vector_client_{name}={value}")
    ]
    line = [*command, "run", f"operate/vector_{verb}.yml", "--", *extra]
    run(on_host("bastion", *line), what=f"vector {verb}")


def main() -> None:
    """Boot and import, converge as lite, switch to the real server, prove it, and switch back.

    Raises:
        StageError: a stage failed, or a second converge with the real server changed something.
    """
    boot.preflight()
    built = boot.trees_and_bundle()
    boot.hosts(*_BOOTED)
    boot.inventory()
    site_import.import_bundle(site_import.supersede(built))
    switch("lite")
    seconds = switch("standalone")
    again = operate.tresor("converge", what="second converge", ansible=_HOSTS)
    operate.refuse_changes(again, "second converge with the real server")
    figures = prove()
    switch("lite")
    _on_server("systemctl", "is-active", "tresor-milvus-proxy.service", what="find form lite")
    if _on_server("find", "/etc/systemd/system", "-name", "tresor-milvus-entry*", what="look"):
        raise StageError("units of the real server are left after the change to form lite")
    figures["converge_seconds"] = round(seconds, 1)
    print(json.dumps(figures, indent=2, sort_keys=True), flush=True)
