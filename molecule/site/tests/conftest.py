"""Connections to the lab's hosts from this machine, over ssh as an operator would look at them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from lab.traffic import Traffic

REPOSITORY = Path(__file__).resolve().parents[3]
LABCTL = REPOSITORY / "molecule" / "lab" / "labctl"
URL = "https://llm.site.example"
CHAT_MODEL = "smollm2-135m-instruct"
LOCK_HELD = 5
"""Exit status of the operator's command while another run holds the lock."""


def labctl(*arguments: str) -> str:
    """Return what the lab tool prints."""
    done = subprocess.run(
        [str(LABCTL), *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, f"labctl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", name="labctl")
def labctl_fixture() -> Callable[..., str]:
    """Return a function that runs the lab tool and returns what it prints."""
    return labctl


@pytest.fixture(scope="session")
def connect() -> Callable[[str], Host]:
    """Return a function that gives a root connection to a host by name."""
    config = labctl("ssh-config").strip().splitlines()[-1]

    def by_name(name: str) -> Host:
        return testinfra.get_host(f"ssh://{name}?sudo=True", ssh_config=config)

    return by_name


@pytest.fixture(scope="session")
def tresor(connect: Callable[[str], Host]) -> Callable[[str], tuple[int, str]]:
    """Return a function that runs the operator's command on the bastion: status and output."""
    bastion = connect("bastion")

    def run(arguments: str) -> tuple[int, str]:
        # Another run, such as the renewal by timer, may hold the lock for a while.
        for _ in range(20):
            done = bastion.run(f"tresor {arguments}")
            if done.rc != LOCK_HELD:
                break
            time.sleep(3)
        return done.rc, done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def token() -> Callable[[str], str]:
    """Return a function that fetches an access token from the company's identity provider."""
    return lambda who: labctl("token", who).strip()


@pytest.fixture(scope="session")
def evidence() -> dict[str, Any]:
    """Return the evidence report the scenario's verify step left."""
    content: dict[str, Any] = json.loads((REPOSITORY / "build" / "evidence.json").read_text())
    return content


@pytest.fixture(scope="session")
def internet_packets() -> Callable[[], int]:
    """Return a function that counts the packets internet1 received from the site."""
    return lambda: int(json.loads(labctl("internet-counter"))["packets"])


@pytest.fixture(scope="session")
def curl(connect: Callable[[str], Host]) -> Callable[..., tuple[int, Any]]:
    """Return a function that calls the API from company1: status and (JSON) body."""
    company = connect("company1")
    bastion = connect("bastion")
    ca = bastion.check_output("cat /etc/tresor/pki/ca.crt")
    company.run_test(f"cat > /tmp/site-ca.crt <<'PEM'\n{ca}\nPEM")

    def call(path: str, *, token: str | None = None, body: Any = None) -> tuple[int, Any]:
        command = "curl -sS --max-time 60 --cacert /tmp/site-ca.crt -w '\\n%{http_code}' "
        if token:
            command += f"-H 'Authorization: Bearer {token}' "
        if body is not None:
            command += f"-H 'Content-Type: application/json' -d '{json.dumps(body)}' "
        text, _, status = company.check_output(command + URL + path).rpartition("\n")
        try:
            return int(status), json.loads(text)
        except json.JSONDecodeError:
            return int(status), text

    return call


@pytest.fixture
def traffic(
    curl: Callable[..., object], token: Callable[[str], str], labctl: Callable[..., str]
) -> Iterator[Traffic]:
    """Users who ask all the time; ``curl`` has put the site's CA on their machine."""
    config = labctl("ssh-config").strip().splitlines()[-1]
    command = ["ssh", "-F", config, "company1", "sudo"]
    with Traffic(command, URL, token("alice"), CHAT_MODEL) as running:
        running.wait_for_good(8, since=time.monotonic(), seconds=60)
        yield running
