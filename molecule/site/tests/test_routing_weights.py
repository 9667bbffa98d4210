"""Canary weights: of two replicas of a model, each gets its share of the conversations.

The lab's model has two replicas already (gpu1, gpu2) of equal weight. The weights are written into
the gateway's own file for the length of a test, and taken over by the reload that a change of
models needs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
URL = "https://llm.site.example/v1/chat/completions"
CONFIG = "/etc/tresor/gateway/gateway.yml"
KEPT = "/run/tresor-test-gateway.yml"
UNIT = "tresor-gateway.service"
CONVERSATIONS = 60
CANARY, STABLE = "gpu2", "gpu1"
# Four standard deviations of a share of a quarter over 60 conversations are 0.22.
TOLERANCE = 0.22
_WRITE = """
import sys, yaml
path, model, weights = sys.argv[1], sys.argv[2], dict(a.split("=") for a in sys.argv[3:])
with open(path) as stream:
    content = yaml.safe_load(stream)
[entry] = [m for m in content["models"] if m["name"] == model]
assert len(entry["replicas"]) == len(weights), entry
for replica in entry["replicas"]:
    [host] = [h for h in weights if "//" + h + "." in replica["url"]]
    replica["weight"] = int(weights[host])
with open(path, "w") as stream:
    yaml.safe_dump(content, stream)
"""
SetWeights = Callable[..., int]


@pytest.fixture
def set_weights(connect: Callable[[str], Host]) -> Iterator[SetWeights]:
    """Return a function that gives each replica a weight; in the end all is as it was."""
    gateway = connect("gateway1")
    gateway.check_output(f"cp -p {CONFIG} {KEPT}")
    python = "/opt/tresor/policy-gateway/current/bin/python -I"

    def change(**weights: int) -> int:
        words = " ".join(f"{host}={weight}" for host, weight in weights.items())
        gateway.check_output(f"{python} - {CONFIG} {MODEL} {words} <<'PY'{_WRITE}PY")
        check = gateway.run(f"{python} -m tresor_gateway --check --config {CONFIG}")
        if check.rc == 0:
            gateway.run_expect([0], f"systemctl reload {UNIT}")
        return int(check.rc)

    yield change
    gateway.check_output(f"cp -p {KEPT} {CONFIG} && rm {KEPT} && systemctl reload {UNIT}")


@pytest.fixture
def share(
    curl: object, connect: Callable[[str], Host], token: Callable[[str], str]
) -> Callable[[], Counter[str]]:
    """Return a function that holds conversations one after the other: who answered, by host."""
    company, gateway = connect("company1"), connect("gateway1")

    def ask() -> Counter[str]:
        lines = ["rm -rf /tmp/weights && mkdir /tmp/weights"]
        for number in range(CONVERSATIONS):
            messages = [{"role": "user", "content": f"Conversation {number}: say hello."}]
            body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": 1})
            lines.append(f"printf %s '{body}' > /tmp/weights/{number}.json")
        company.check_output("\n".join(lines))
        call = (
            "curl -sS --max-time 90 --cacert /tmp/site-ca.crt -o /dev/null"
            f" -H 'Authorization: Bearer {token('alice')}' -H 'Content-Type: application/json'"
            f" -d @/tmp/weights/$n.json -w '%{{http_code}} %header{{x-request-id}}\\n' {URL}"
        )
        # One at a time, so that nobody's home is too busy and another replica helps out.
        command = f"for n in $(seq 0 {CONVERSATIONS - 1}); do {call}; done"
        answers = [line.split() for line in company.check_output(command).splitlines()]
        assert [status for status, _ in answers] == ["200"] * CONVERSATIONS
        asked = {request_id for _, request_id in answers}
        assert len(asked) == CONVERSATIONS
        found: Counter[str] = Counter()
        for line in gateway.check_output(
            "sleep 1; tail -q -n 500 /var/log/tresor/audit/gateway1-gateway*/*.jsonl"
        ).splitlines():
            record = json.loads(line)
            if record.get("request_id") in asked and record["type"] == "decision":
                found[record["engine"].split(".")[0]] += 1
        assert found.total() == CONVERSATIONS
        return found

    return ask


def test_replicas_share_conversations_by_their_weights(
    set_weights: SetWeights, share: Callable[[], Counter[str]]
) -> None:
    assert set_weights(gpu1=300, gpu2=100) == 0
    first = share()
    assert abs(first[CANARY] / CONVERSATIONS - 0.25) < TOLERANCE
    assert first[CANARY] > 0
    # The same conversations have the same homes.
    assert share() == first
    # More weight moves conversations to the canary and none away from it.
    assert set_weights(gpu1=100, gpu2=300) == 0
    later = share()
    assert later[CANARY] > first[CANARY]
    assert abs(later[CANARY] / CONVERSATIONS - 0.75) < TOLERANCE


def test_replica_without_weight_gets_no_conversation(
    set_weights: SetWeights, share: Callable[[], Counter[str]]
) -> None:
    assert set_weights(gpu1=100, gpu2=0) == 0
    assert share() == Counter({STABLE: CONVERSATIONS})


def test_weights_that_leave_nobody_are_refused_and_change_nothing(
    set_weights: SetWeights, share: Callable[[], Counter[str]]
) -> None:
    assert set_weights(gpu1=0, gpu2=0) != 0
    assert set(share()) == {CANARY, STABLE}
