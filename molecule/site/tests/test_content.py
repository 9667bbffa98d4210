"""Prompts and answers of one group are kept, masked and sealed; nobody else's are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
STORE = "/var/lib/tresor/content"
AUDIT = "/var/log/tresor/audit"
MAIL = "anna.muster@example.com"
CONTENT = "/opt/tresor/policy-gateway/current/bin/python -I -m tresor_gateway.audit content"
Curl = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def gateway(connect: Callable[[str], Host]) -> Host:
    """Return the gateway."""
    return connect("gateway1")


def decisions(gateway: Host, endpoint: str) -> list[dict[str, Any]]:
    """Return the newest decisions of an endpoint, the last one last."""
    lines = gateway.check_output(
        f'sleep 1; grep -h \'"endpoint":"{endpoint}"\' {AUDIT}/gateway1-gateway*/*.jsonl || true'
    )
    found = [json.loads(line) for line in lines.splitlines()]
    return sorted((entry for entry in found if entry["status"] == 200), key=lambda e: e["time"])


def ask(curl: Curl, token: str, text: str) -> Any:
    """Return the answer to a question."""
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 8}
    status, answer = curl("/v1/chat/completions", token=token, body=body)
    assert status == 200, answer
    return answer


def show(gateway: Host, record: str) -> Any:
    """Return what an operator sees of a record."""
    done = gateway.run(f"{CONTENT} show --record {record} --reason 'lab test'")
    return json.loads(done.stdout) if done.rc == 0 else done.stderr


def test_content_of_the_group_is_kept_masked_and_shown_only_with_a_record(
    gateway: Host, curl: Curl, token: Callable[[str], str]
) -> None:
    mark = uuid.uuid4().hex
    ask(curl, token("alice"), f"Write {mark} to {MAIL}.")
    record = decisions(gateway, "chat.completions")[-1]
    assert record["content"]["kept"] == "masked"
    kept = show(gateway, record["id"])
    assert kept["request"]["messages"][0]["content"] == f"Write {mark} to [EMAIL_1]."
    assert kept["answer"]["choices"][0]["content"].strip()
    # Neither on the disk nor in the audit log, and the frame is what the record says.
    assert gateway.run(f"grep -rqaF -e {mark} -e {MAIL} {STORE} {AUDIT}").rc == 1
    ref = record["content"]
    sealed = f"tail -c +{ref['offset'] + 25} {STORE}/{ref['file']} | head -c {ref['bytes']}"
    assert gateway.check_output(f"{sealed} | sha256sum").split()[0] == ref["sha256"]
    uses = gateway.check_output(f"cat {AUDIT}/gateway1-operator/*.jsonl").splitlines()
    assert [json.loads(line).get("outcome") for line in uses][-1] == "done"


def test_content_of_others_is_not_kept(
    gateway: Host, curl: Curl, token: Callable[[str], str]
) -> None:
    ask(curl, token("batch"), "Say hello.")
    record = decisions(gateway, "chat.completions")[-1]
    assert "team-a" not in record["groups"]
    assert "content" not in record
    assert "no content" in show(gateway, record["id"])


def test_store_is_for_the_service_alone(gateway: Host) -> None:
    folder = gateway.file(STORE)
    assert (folder.user, folder.mode) == ("tresor-gateway", 0o700)
    assert gateway.run(f"runuser -u nobody -- ls {STORE}").rc != 0
    assert gateway.check_output(f"find {STORE} -type f -perm /077") == ""
    key = gateway.file("/etc/tresor/secrets/gateway/content.key")
    assert (key.user, key.mode) == ("root", 0o400)
    timer = gateway.check_output("systemctl is-active tresor-content-expire.timer")
    assert timer == "active"
    gateway.check_output("systemctl start tresor-content-expire.service")


def test_erased_day_cannot_be_read_any_more_and_the_chain_holds(
    gateway: Host, curl: Curl, token: Callable[[str], str], tresor: Callable[[str], tuple[int, str]]
) -> None:
    ask(curl, token("alice"), "Say hello.")
    record = decisions(gateway, "chat.completions")[-1]
    assert show(gateway, record["id"])["answer"]
    what = f"-e tresor_pseudonym={record['subject']} -e tresor_day={record['time'][:10]}"
    refused, _ = tresor(f"run operate/erase_content.yml -- {what}")
    assert refused != 0, "without a reason nothing is erased"
    assert show(gateway, record["id"])["answer"]
    rc, output = tresor(f"run operate/erase_content.yml -- {what} -e tresor_reason=lab")
    assert rc == 0, output
    assert "erased" in show(gateway, record["id"])
    verify = "/opt/tresor/policy-gateway/current/bin/python -I -m tresor_gateway.audit verify"
    assert "ok:" in gateway.check_output(f"{verify} --from-start {AUDIT}")
    # The day goes on under a new key.
    ask(curl, token("alice"), "Say hello again.")
    assert show(gateway, decisions(gateway, "chat.completions")[-1]["id"])["answer"]


def test_strict_answer_is_on_disk_when_it_arrives(
    gateway: Host, curl: Curl, token: Callable[[str], str]
) -> None:
    answer = ask(curl, token("alice"), "Say hello.")
    assert answer["choices"]
    newest = gateway.check_output(f"cat {AUDIT}/gateway1-gateway*/*.jsonl").splitlines()
    entries = [json.loads(line) for line in newest]
    latest = max((e for e in entries if e["type"] == "decision"), key=lambda e: e["time"])
    assert "team-a" in latest["groups"]
    assert latest["endpoint"] == "chat.completions"
