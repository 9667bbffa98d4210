"""Records of every kind arrive at the collector, whole, told apart, and only there."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

SITE = ("bastion", "gateway1", "gpu1", "gpu2", "vector1", "ops1")
RECORDS = "/var/log/siem/site.jsonl"
COLLECTOR = "198.51.100.130"
SECONDS = 20.0
LABCTL = Path(__file__).resolve().parents[3] / "molecule" / "lab" / "labctl"


def labctl(*arguments: str) -> str:
    """Return what the lab tool prints; a record may hold bytes that are no text."""
    done = subprocess.run([str(LABCTL), *arguments], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


Document = dict[str, Any]


def arrived(
    mark: str, seconds: float = SECONDS, wanted: Callable[[Document], bool] = lambda _: True
) -> list[Document]:
    """Return the wanted documents with this mark; waits for the first.

    The command that writes a mark is a record too (sudo), and may arrive before what it wrote.
    """
    deadline = time.monotonic() + seconds
    while True:
        text = labctl("exec", "company1", "sh", "-c", f"grep -aF -- '{mark}' {RECORDS} || true")
        raws = [json.loads(line)["raw"] for line in text.splitlines() if line.startswith("{")]
        found = [json.loads(raw[raw.index("{") :]) for raw in raws]
        found = [entry for entry in found if wanted(entry)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def mark() -> str:
    """Return a word that stands in no other record."""
    return f"mark{uuid.uuid4().hex[:16]}"


@pytest.mark.parametrize("name", SITE)
def test_journal_entry_arrives_from_every_host(name: str, connect: Callable[[str], Host]) -> None:
    word = mark()
    connect(name).check_output("logger -t siem-demo -p auth.warning %s", word)
    (found,) = arrived(word, wanted=lambda entry: entry["service"]["name"] == "siem-demo")
    assert found["message"] == word
    assert found["log"]["level"] == "warning"
    assert found["host"]["name"] in {name, f"{name}1"}
    assert found["event"]["dataset"] == "journal"


def test_login_and_sudo_arrive(connect: Callable[[str], Host]) -> None:
    word = mark()
    connect("vector1").run(f"echo {word}")
    (sudo, *_) = arrived(word, wanted=lambda entry: entry["event"]["dataset"] == "sudo")
    assert sudo["event"]["outcome"] == "success"
    assert sudo["user"]["effective"]["name"] == "root"
    logins = arrived('\\"action\\":\\"ssh-login\\"', wanted=lambda entry: entry["source"]["ip"])
    assert {entry["event"]["category"][0] for entry in logins} == {"authentication"}


def test_refused_request_arrives_from_nginx_and_gateway_without_its_content() -> None:
    secret, prompt = mark(), mark()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]})
    answer = labctl(
        "exec", "company1", "curl", "-sk", "-D", "-", "-o", "/dev/null",
        "-H", f"Authorization: Bearer {secret}", "-H", "Content-Type: application/json",
        "-d", body, "https://llm.site.example/v1/chat/completions?key=" + secret,
    )  # fmt: skip
    lines = [line.partition(": ") for line in answer.splitlines()]
    (request,) = [value.strip() for key, _, value in lines if key.lower() == "x-request-id"]
    time.sleep(3)
    found = {entry["event"]["dataset"]: entry for entry in arrived(request)}
    assert set(found) == {"nginx.access", "tresor.audit"}
    assert found["nginx.access"]["event"]["id"] == f"nginx-{request}"
    assert found["nginx.access"]["http"]["response"]["status_code"] == 401
    assert found["nginx.access"]["url"]["path"] == "/v1/chat/completions"
    assert found["tresor.audit"]["event"]["outcome"] == "failure"
    assert found["tresor.audit"]["event"]["id"] == found["tresor.audit"]["tresor"]["audit"]["id"]
    assert arrived(secret, 0) == []
    assert arrived(prompt, 0) == []


def test_dropped_packet_arrives(connect: Callable[[str], Host]) -> None:
    connect("ops1").run("timeout 1 bash -c 'exec 3<>/dev/tcp/203.0.113.10/4712'")
    drops = arrived('\\"port\\":4712', wanted=lambda entry: entry["host"]["name"] == "ops1")
    assert drops
    assert drops[0]["destination"] == {"ip": "203.0.113.10", "port": 4712}
    assert drops[0]["event"]["type"] == ["connection", "denied"]


def test_runs_and_bundle_events_arrived() -> None:
    runs = arrived('\\"dataset\\":\\"tresor.run\\"')
    assert "site.yml" in {entry["event"]["action"] for entry in runs}
    assert arrived('\\"dataset\\":\\"tresor.bundle\\"')


@pytest.mark.parametrize("name", SITE)
def test_exporter_sees_how_forwarding_stands(name: str, connect: Callable[[str], Host]) -> None:
    host = connect(name)
    counters = host.file("/run/tresor-siem/stats.json")
    assert (counters.user, counters.mode) == ("tresor-siem", 0o640)
    assert host.run("runuser -u nobody -- cat /run/tresor-siem/stats.json").rc != 0
    printed = host.check_output("curl -sf --max-time 10 http://127.0.0.1:9102/metrics")
    values = dict(line.rsplit(" ", 1) for line in printed.splitlines() if not line.startswith("#"))
    assert float(values['tresor_exporter_collector_success{collector="siem"}']) == 1
    assert float(values["tresor_siem_suspended"]) == 0
    assert 'tresor_siem_queue_records{queue="wire"}' in values


def test_ids_tell_records_apart() -> None:
    script = (
        "import json,collections\n"
        "seen=collections.defaultdict(set)\n"
        f"for line in open('{RECORDS}'):\n"
        " raw=json.loads(line)['raw']\n"
        " seen[json.loads(raw[raw.index('{'):])['event']['id']].add(raw)\n"
        "print(len(seen), sum(len(group) > 1 for group in seen.values()))"
    )
    records, different = map(int, labctl("exec", "company1", "python3", "-c", script).split())
    assert records > 100
    assert different == 0, "records that differ bear the same event.id"


def test_collector_refuses_plain_tcp_and_strangers() -> None:
    before = int(labctl("exec", "company1", "sh", "-c", f"wc -l < {RECORDS}"))
    word = mark()
    plain = f"printf '1 open 0\\n2 syslog %d {word}\\n' | timeout 3 nc -w 2 {COLLECTOR} 2514"
    labctl("exec", "company1", "sh", "-c", f"{plain} || true")
    stranger = (
        "cd /tmp && openssl req -x509 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 1 "
        "-subj /CN=gateway1.site.example -keyout x.key -out x.pem 2>/dev/null; "
        f"printf '1 syslog 20 {word}\\n' | timeout 5 openssl s_client -connect {COLLECTOR}:2514 "
        "-cert x.pem -key x.key -quiet >/dev/null 2>&1 || true"
    )
    labctl("exec", "company1", "sh", "-c", stranger)
    assert arrived(word, 0) == []
    assert int(labctl("exec", "company1", "sh", "-c", f"wc -l < {RECORDS}")) >= before


@pytest.fixture
def impostor() -> Iterator[Callable[[str], None]]:
    """Return a function that changes the collector's certificate; the own one comes back."""
    yield lambda identity: labctl("siem", "present", identity) and None
    labctl("siem", "present", "own")


@pytest.mark.parametrize("identity", ["other-ca", "other-name"])
def test_collector_that_cannot_prove_its_name_gets_nothing(
    identity: str, impostor: Callable[[str], None], connect: Callable[[str], Host]
) -> None:
    host = connect("vector1")
    impostor(identity)
    word = mark()
    host.check_output("logger -t siem-demo %s", word)
    time.sleep(10)
    assert arrived(word, 0) == []
    report = json.loads(host.check_output("cat /var/lib/tresor/siem/checkpoint.json"))
    assert report["connected"] is False
    labctl("siem", "present", "own")
    assert arrived(word, 60), "once the right collector is back, the record arrives"
