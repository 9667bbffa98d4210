"""The vector database as a client with a certificate sees it, and everything it must refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

STAGES = Path(__file__).resolve().parents[2] / "stages"
PYTHON = "/opt/tresor/vector-client/current/bin/python -I"
LOAD = "/run/vector_load.py"
BACKUPS = "/var/lib/tresor/backups/vector"
ROWS = 100_000
FEWER = 20_000
"""Rows of the collection that is backed up and restored; the real server does it with all."""
STAMP = "/var/lib/tresor/milvus/lite/tresor-version.json"
DROP_IN = "/run/systemd/system/tresor-milvus-watch.service.d"

Connect = Callable[[str], Host]


@pytest.fixture(scope="module")
def bastion(connect: Connect) -> Host:
    """Return the bastion with the load script on it."""
    host = connect("bastion")
    text = (STAGES / "vector_load.py").read_text()
    host.run_expect([0], f"cat > {LOAD} <<'END-OF-SCRIPT'\n{text}\nEND-OF-SCRIPT")
    return host


@pytest.fixture(scope="module")
def server(connect: Connect) -> Host:
    """Return the host of the vector database."""
    return connect("vector1")


def load(bastion: Host, *arguments: str) -> dict[str, Any]:
    """Run the load script, which must succeed."""
    done = bastion.run(f"{PYTHON} {LOAD} {' '.join(arguments)}")
    assert done.rc == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def wait_up(bastion: Host, seconds: float = 120) -> float:
    """Wait until the server answers again; return the seconds it took."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if bastion.run(f"{PYTHON} {LOAD} has load").rc == 0:
            return time.monotonic() - began
        time.sleep(1)
    pytest.fail(f"no answer for {seconds} s")


def tresor(bastion: Host, verb: str, **options: str) -> Any:
    """Run an operate verb with the release's own playbooks."""
    extra = " ".join(f"-e vector_client_{name}={value}" for name, value in options.items())
    return bastion.run(f"tresor run operate/vector_{verb}.yml -- {extra}")


@pytest.fixture(scope="module")
def searched(bastion: Host) -> Iterator[dict[str, Any]]:
    """Fill the collection once; return what a search finds."""
    filled = load(bastion, "fill", "load", f"--count={ROWS}")
    found = load(bastion, "search", "load", f"--count={ROWS}")
    print(f"\nvector: {ROWS} rows, {filled} {found}")
    assert found["rows"] == ROWS
    assert found["own_first"] == found["queries"]
    yield found
    for name in ("load", "small", "again"):
        if load(bastion, "has", name)["has"]:
            load(bastion, "drop", name)


def same(bastion: Host, searched: dict[str, Any]) -> None:
    """Check that all rows are there and every query finds the same ids."""
    found = load(bastion, "search", "load", f"--count={ROWS}")
    assert found["rows"] == ROWS
    assert found["ids_sha256"] == searched["ids_sha256"]


def test_found_again_after_restart(bastion: Host, server: Host, searched: dict[str, Any]) -> None:
    server.run_expect([0], "systemctl restart tresor-milvus.service")
    print(f"\nvector: answers {wait_up(bastion):.1f} s after a restart")
    same(bastion, searched)


def test_found_again_after_kill(bastion: Host, server: Host, searched: dict[str, Any]) -> None:
    before = server.check_output("systemctl show -p MainPID --value tresor-milvus.service")
    server.run_expect([0], f"kill -9 {before}")
    print(f"\nvector: answers {wait_up(bastion):.1f} s after kill -9")
    after = server.check_output("systemctl show -p MainPID --value tresor-milvus.service")
    assert after not in (before, "0")
    same(bastion, searched)


@pytest.fixture(scope="module")
def whole(bastion: Host, searched: dict[str, Any]) -> dict[str, Any]:
    """Back up a smaller collection; return what a search found in it."""
    bastion.run_expect([0], f"rm -rf {BACKUPS}/test-whole")
    load(bastion, "fill", "small", f"--count={FEWER}")
    found = load(bastion, "search", "small", f"--count={FEWER}")
    began = time.monotonic()
    done = tresor(bastion, "backup", collection="small", backup="test-whole")
    assert done.rc == 0, done.stdout[-3000:]
    print(f"\nvector: backup of {FEWER} rows {time.monotonic() - began:.1f} s")
    return found


def same_fewer(bastion: Host, whole: dict[str, Any]) -> None:
    """Check that the smaller collection is what was backed up."""
    found = load(bastion, "search", "small", f"--count={FEWER}")
    assert found["rows"] == FEWER
    assert found["ids_sha256"] == whole["ids_sha256"]


def test_backup_drop_restore(bastion: Host, whole: dict[str, Any]) -> None:
    assert bastion.file(f"{BACKUPS}/test-whole").mode == 0o700
    bastion.run_expect([0], f"cd {BACKUPS}/test-whole && sha256sum -c manifest.json.sha256")
    load(bastion, "drop", "small")
    began = time.monotonic()
    done = tresor(bastion, "restore", backup="test-whole")
    assert done.rc == 0, done.stdout[-3000:]
    print(f"\nvector: restore of {FEWER} rows {time.monotonic() - began:.1f} s")
    same_fewer(bastion, whole)


def test_existing_collection_is_not_overwritten(bastion: Host, whole: dict[str, Any]) -> None:
    done = tresor(bastion, "restore", backup="test-whole")
    assert done.rc != 0
    assert "exists" in done.stdout
    same_fewer(bastion, whole)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("damaged", "printf X | dd of=rows-00000.jsonl bs=1 seek=5000 conv=notrunc", "is damaged"),
        ("manifest", 'sed -i \'s/"rows": [0-9]*/"rows": 1/\' manifest.json', "is damaged"),
        ("missing", "rm rows-00000.jsonl", "is missing"),
        (
            "newer",
            'sed -i \'s/"format": 1/"format": 2/\' manifest.json'
            " && sha256sum manifest.json > manifest.json.sha256",
            "newer one",
        ),
    ],
)
def test_spoilt_backup_is_refused(
    bastion: Host, whole: dict[str, Any], name: str, spoil: str, reason: str
) -> None:
    folder = f"{BACKUPS}/test-{name}"
    bastion.run_expect([0], f"rm -rf {folder} && cp -a {BACKUPS}/test-whole {folder}")
    bastion.run_expect([0], f"cd {folder} && {spoil}")
    done = tresor(bastion, "restore", backup=f"test-{name}", restore_as="again")
    bastion.run_expect([0], f"rm -rf {folder}")
    assert done.rc != 0
    assert reason in " ".join(done.stdout.split())
    assert not load(bastion, "has", "again")["has"]


def test_no_certificate_no_answer(bastion: Host) -> None:
    assert bastion.run(f"{PYTHON} {LOAD} has load").rc == 0
    assert bastion.run(f"{PYTHON} {LOAD} has load --no-certificate").rc != 0
    # Not even an error page: the connection ends.
    done = bastion.run(
        "curl -sS --http2 --max-time 5 --cacert /etc/tresor/pki/ca.crt"
        " https://vector1.site.example:19530/"
    )
    assert done.rc in (52, 56, 92), (done.rc, done.stdout, done.stderr)
    assert done.stdout == ""


def test_revoked_host_is_refused(bastion: Host, server: Host) -> None:
    """The proxy reads the list of revoked certificates; here one with the bastion's own on it."""
    crl, work = "/etc/tresor/pki/ca.crl", "/run/vector-crl"
    serial = bastion.check_output("openssl x509 -in /etc/tresor/pki/host.crt -noout -serial")
    entry = f"R\t991231235959Z\t250101000000Z\t{serial.split('=')[1]}\tunknown\t/CN=bastion1"
    bastion.run_expect([0], f"install -d -m 0700 {work} && printf '{entry}\n' > {work}/index")
    config = f"[ca]\ndefault_ca=it\n[it]\ndatabase={work}/index\ndefault_md=sha256\n"
    bastion.run_expect([0], f"printf '{config}' > {work}/ca.cnf")
    listed = bastion.check_output(
        f"openssl ca -config {work}/ca.cnf -gencrl -crldays 1"
        " -keyfile /etc/tresor/pki/ca/ca.key -passin file:/etc/tresor/pki/ca/passphrase"
        " -cert /etc/tresor/pki/ca.crt"
    )
    bastion.run_expect([0], f"rm -r {work}")
    kept = server.check_output(f"cat {crl}")
    restart = "systemctl restart tresor-milvus-proxy"
    try:
        server.run_expect([0], f"echo '{listed}' > {crl} && {restart}")
        assert bastion.run(f"{PYTHON} {LOAD} has load").rc != 0
    finally:
        server.run_expect([0], f"echo '{kept}' > {crl} && {restart}")
    wait_up(bastion)


def test_stop_does_not_wait_for_a_search(
    bastion: Host, server: Host, searched: dict[str, Any]
) -> None:
    """Searches that run end within their grace, and every row is there afterwards."""
    one = f"{PYTHON} {LOAD} search load --count={ROWS}"
    bastion.run_expect([0], f"for i in 1 2 3; do ({one}) >/dev/null 2>&1 & done; sleep 4")
    began = time.monotonic()
    server.run_expect([0], "systemctl stop tresor-milvus.service")
    seconds = time.monotonic() - began
    assert server.check_output("systemctl show -p Result --value tresor-milvus") == "success"
    server.run_expect([0], "systemctl start tresor-milvus.service")
    print(f"\nvector: stopped within {seconds:.1f} s while searches ran")
    assert seconds < 30
    wait_up(bastion)
    same(bastion, searched)


def test_other_host_is_refused(connect: Connect, bastion: Host) -> None:
    probe = "timeout 3 bash -c 'exec 3<>/dev/tcp/198.51.100.40/19530'"
    assert bastion.run(probe).rc == 0
    assert connect("company1").run(probe).rc != 0


def test_local_users_have_no_way_past_the_certificate(server: Host) -> None:
    """No TCP port of the server is on the host, and its socket opens only for its group."""
    listening = server.check_output("ss -Hltn | awk '{print $4}'").split()
    assert sorted(a for a in listening if a.endswith(":19530")) == [
        "198.51.100.40:19530",
        "[2001:db8:51::40]:19530",
    ]
    assert not [a for a in listening if a.endswith((":9091", ":2379", ":19529"))]
    connect_it = (
        "import socket; socket.socket(socket.AF_UNIX).connect('/run/tresor/milvus/milvus.sock')"
    )
    assert server.run(f'runuser -u nobody -- python3 -c "{connect_it}"').rc != 0
    assert server.run(f'runuser -u milvus -- python3 -c "{connect_it}"').rc == 0


@pytest.mark.parametrize("unit", ["tresor-milvus", "tresor-milvus-watch", "tresor-milvus-proxy"])
def test_units_are_sandboxed(server: Host, unit: str) -> None:
    line = server.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -1")
    print(f"\n{line}")
    assert float(line.split(":")[1].split()[0]) <= 2.0


def metric(server: Host, name: str) -> float:
    """Return a metric of the watch."""
    page = server.check_output("curl -sS --max-time 10 http://127.0.0.1:9103/metrics")
    return float(next(row for row in page.splitlines() if row.startswith(f"{name} ")).split()[1])


def test_space_guard_refuses_writes_and_lets_them_back(
    bastion: Host, server: Host, searched: dict[str, Any]
) -> None:
    line = server.check_output("grep ^ExecStart= /etc/systemd/system/tresor-milvus-watch.service")
    words = line.split()
    words[words.index("--minimum-free") + 1] = str(10**15)
    text = f"[Service]\\nExecStart=\\n{' '.join(words)}\\n"
    server.run_expect([0], f"mkdir -p {DROP_IN} && printf '{text}' > {DROP_IN}/full.conf")
    insert = f"{PYTHON} {LOAD} insert-one load --count={ROWS}"
    try:
        server.run_expect([0], "systemctl daemon-reload && systemctl restart tresor-milvus-watch")
        done = bastion.run(insert)
        assert done.rc != 0
        assert "RESOURCE_EXHAUSTED" in done.stderr
        assert "vector database is read-only" in done.stderr
        assert metric(server, "tresor_milvus_writes_blocked") == 1
        same(bastion, searched)
        journal = server.check_output("journalctl -q -u tresor-milvus-watch -n 20 -o cat")
        assert "vector database is read-only" in journal
    finally:
        server.run(f"rm -rf {DROP_IN}")
        server.run("systemctl daemon-reload && systemctl restart tresor-milvus-watch")
    assert metric(server, "tresor_milvus_writes_blocked") == 0
    assert bastion.run(insert).rc == 0


def test_newer_data_is_refused(bastion: Host, server: Host) -> None:
    kept = server.check_output(f"cat {STAMP}")
    newer = '{"form": "lite", "version": "99.0.0", "before": []}'
    try:
        server.run_expect([0], f"systemctl stop tresor-milvus && echo '{newer}' > {STAMP}")
        assert server.run("systemctl start tresor-milvus.service").rc != 0
        journal = server.check_output("journalctl -q -u tresor-milvus -n 20 -o cat")
        assert "was written by Milvus 99.0.0, which is newer" in journal
        state = "systemctl show -p ActiveState --value tresor-milvus.service"
        assert server.check_output(state) == "failed"
        older = '{"form": "lite", "version": "3.0.0", "before": []}'
        server.run_expect([0], f"echo '{older}' > {STAMP} && systemctl start tresor-milvus")
        moved = json.loads(server.check_output(f"cat {STAMP}"))
        assert moved["before"] == ["3.0.0"]
        assert moved["version"] == json.loads(kept)["version"]
    finally:
        server.run(f"echo '{kept}' > {STAMP} && systemctl reset-failed tresor-milvus")
        server.run_expect([0], "systemctl start tresor-milvus.service")
    wait_up(bastion)
