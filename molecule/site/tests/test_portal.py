"""The page for people from the company's side: over the provider to an answer and out again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
SCRIPT = Path(__file__).parent / "company" / "portal_client.py"
AUDIT = "/var/log/tresor/audit/gateway1-portal"
Connect = Callable[[str], Host]
Play = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def play(connect: Connect) -> Play:
    """Return a function that runs tasks in a fresh browser on company1."""
    company, bastion = connect("company1"), connect("bastion")
    site = bastion.check_output("cat /etc/tresor/pki/ca.crt")
    # The provider calls the gateway when somebody signs out, so it has to know the site's CA.
    company.check_output(
        f"cat /etc/company/ca.pem - > /etc/company/trusted.new <<'PEM'\n{site}\nPEM\n"
        "if ! cmp -s /etc/company/trusted.new /etc/company/trusted.pem; then "
        "mv /etc/company/trusted.new /etc/company/trusted.pem; systemctl restart company-idp; fi"
    )
    for _ in range(60):
        if company.run("company-token batch").rc == 0:
            break
        time.sleep(0.5)
    company.run_test(f"cat > /run/portal_client.py <<'SCRIPT'\n{SCRIPT.read_text()}\nSCRIPT")

    def run(*tasks: list[str]) -> list[dict[str, Any]]:
        command = f"python3 /run/portal_client.py <<'TASKS'\n{json.dumps(tasks)}\nTASKS"
        text = company.check_output(command)
        results: list[dict[str, Any]] = json.loads(text)
        return results

    return run


def test_person_signs_in_asks_and_is_out_when_the_provider_says_so(play: Play) -> None:
    before, signed_in, answer, ended, after = play(
        ["open", "/"],
        ["sign-in", "alice"],
        ["chat", MODEL, "Say hello."],
        ["end-at-provider"],
        ["open", "/"],
    )
    assert before["status"] == 401
    assert signed_in["url"] == "https://llm.site.example/"
    assert signed_in["status"] == 200
    assert "Alice Example" in signed_in["text"]
    assert f"<td>{MODEL}</td>" in signed_in["text"]
    assert answer["status"] == 200
    used = answer["text"].partition('<td id="used-daily_tokens">')[2].partition("</td>")[0]
    assert int(used.replace("\u202f", "")) > 0
    assert ended["status"] == 200
    assert after["status"] == 401, "the same browser, with its cookie"


def test_page_shows_only_what_its_reader_may_use(play: Play) -> None:
    signed_in, answer = play(["sign-in", "bob"], ["chat-without-token", MODEL])
    assert signed_in["status"] == 200
    assert "Bob Example" in signed_in["text"]
    assert MODEL not in signed_in["text"].replace(f'"model": "{MODEL}"', "")
    assert answer["status"] == 403


def test_stranger_gets_nothing(play: Play) -> None:
    page, chat, foreign = play(["open", "/"], ["open", "/chat"], ["foreign-state"])
    assert page["status"] == 401
    assert chat["status"] == 404, "GET"
    assert foreign["status"] == 400


def test_form_without_its_token_is_refused(play: Play) -> None:
    _, refused, page = play(["sign-in", "alice"], ["chat-without-token", MODEL], ["open", "/"])
    assert refused["status"] == 403
    assert page["status"] == 200


def test_page_is_closed_to_scripts_and_frames_of_others(play: Play) -> None:
    [page] = play(["open", "/"])
    policy = page["headers"]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page["headers"]["X-Frame-Options"] == "DENY"
    assert page["headers"]["Strict-Transport-Security"]


def test_every_step_is_recorded_without_a_name(connect: Connect, play: Play) -> None:
    play(["sign-in", "alice"], ["chat-without-token", MODEL], ["end-at-provider"])
    time.sleep(0.5)
    gateway = connect("gateway1")
    lines = gateway.check_output(f"cat $(ls -t {AUDIT}/*.jsonl | head -1)").splitlines()
    records = [r for r in map(json.loads, lines) if r["type"] == "decision"]
    seen = {(r["endpoint"], r["decision"], r["reason"]) for r in records}
    assert {
        ("portal.login", "allow", "ok"),
        ("portal.callback", "allow", "ok"),
        ("portal.chat", "deny", "form_foreign"),
        ("portal.backchannel-logout", "allow", "ok"),
    } <= seen
    assert "alice" not in "".join(lines).lower()
    verify = "/opt/tresor/policy-gateway/current/bin/python -I -m tresor_gateway.audit verify"
    assert gateway.run(f"{verify} {AUDIT}").rc == 0


def test_portal_is_nobodys_but_nginx(connect: Connect) -> None:
    gateway = connect("gateway1")
    socket = "/run/tresor/gateway/portal.sock"
    assert gateway.check_output(f"stat -c '%a %U' {socket}") == "660 tresor-gateway"
    assert gateway.run(f"runuser -u nobody -- curl -s --unix-socket {socket} http://x/").rc != 0
    secret = gateway.file("/etc/tresor/secrets/gateway-portal/client-secret")
    assert (secret.mode, secret.user) == (0o400, "root")
