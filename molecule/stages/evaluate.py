"""Stage evaluate: the lab's small model at two precisions, asked and judged for real.

Runs on a converged lab and leaves it converged. vLLM's CPU engine (0.32.0) runs bfloat16, float16
and float32 from one checkpoint (``CpuPlatform.supported_dtypes``). Its FP8 kernels need AMX tiles,
which few machines have; its INT8 kernel needs a checkpoint of its own. So float32 is the reference
here, and bfloat16, what the lab serves, the cheaper one.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any, Final

import yaml

from stages import operate
from stages.shell import BUILD, REPOSITORY, StageError, on_host, output, put, run

_MODELS: Final = "/etc/tresor/inventory/group_vars/all/models.yml"
_SOURCE: Final = REPOSITORY / "inventories" / "lab" / "group_vars" / "all" / "models.yml"
_RESULTS: Final = "/var/lib/tresor/evaluations"
_OWN: Final = "/run/claims.jsonl"
REFERENCE: Final = "exact-gpu1"
CANDIDATE: Final = "chat-gpu1"
_SHIPPED: Final = 100
_PLAYBOOK: Final = "operate/evaluate.yml"
_LINES: Final = (
    {"id": "a", "lang": "en", "kind": "own", "prompt": "Say hello.", "check": {"kind": "judge"}},
    {"id": "b", "lang": "de", "kind": "own", "prompt": "Was ist ein Tresor?", "max_tokens": 40,
     "check": {"kind": "judge"}},
    {"id": "c", "lang": "en", "kind": "own", "prompt": "What is 2 + 2?",
     "check": {"kind": "numeric", "value": 4}},
)  # fmt: skip


def with_float32() -> bytes:
    """Return the lab's catalogue with the small model a second time, in float32 on gpu1."""
    content = yaml.safe_load(_SOURCE.read_text(encoding="utf-8"))
    model: dict[str, Any] = json.loads(json.dumps(content["tresor_models"][0]))
    model |= {
        "name": "smollm2-135m-float32",
        "aliases": [],
        "placement": [{"instance": "exact", "groups": [], "hosts": ["gpu1"], "port": 8102}],
    }
    model["engine"]["args"]["dtype"] = "float32"
    content["tresor_models"].append(model)
    return yaml.safe_dump(content, sort_keys=False).encode()


def options(**more: str) -> tuple[str, ...]:
    """Return what follows ``tresor run operate/evaluate.yml --``."""
    wanted = {"evaluation_reference": REFERENCE, "evaluation_candidate": CANDIDATE, **more}
    return ("-e", json.dumps(wanted))


def results() -> set[str]:
    """Return the names of everything that lies in the directory of the results."""
    listed = ("sh", "-c", f"ls -A {_RESULTS} 2>/dev/null || true")
    return set(output(on_host("bastion", *listed), what="list the results").split())


def evaluate(page_name: str, **more: str) -> dict[str, Any]:
    """Run the verb and keep its page in ``build``; return the content of its result."""
    before = results()
    operate.tresor("run", _PLAYBOOK, what="evaluate", ansible=options(**more))
    new = results() - before
    if len(new) != 1:
        raise StageError(f"one new result was expected in {_RESULTS}, there are {sorted(new)}")
    folder = f"{_RESULTS}/{new.pop()}"
    modes = output(
        on_host("bastion", "stat", "-c", "%n %a %U", folder, f"{folder}/page.md"), what="modes"
    )
    if modes.split() != [folder, "700", "root", f"{folder}/page.md", "600", "root"]:
        raise StageError(f"a result is for root alone, but: {modes}")
    page = output(on_host("bastion", "cat", f"{folder}/page.md"), what="read the page")
    found: dict[str, Any] = json.loads(
        output(on_host("bastion", "cat", f"{folder}/result.json"), what="read the result")
    )
    BUILD.mkdir(exist_ok=True)
    (BUILD / page_name).write_text(page, encoding="utf-8")
    return found


def judge(result: dict[str, Any]) -> None:
    """Refuse a result that cannot be right; ``result`` is of the shipped prompts.

    Raises:
        StageError: with everything that is wrong.
    """
    wrong = []
    reference, candidate = result["instances"]["reference"], result["instances"]["candidate"]
    if result["prompts"]["count"] != _SHIPPED:
        wrong.append(f"{result['prompts']['count']} prompts, expected {_SHIPPED}")
    tokens = [one["memory"]["kv_tokens"] for one in (reference, candidate)]
    if not tokens[0] or tokens[1] != 2 * tokens[0]:
        wrong.append(f"the same memory holds {tokens} tokens; 32 bits should hold half of 16 bits")
    for role, one in result["instances"].items():
        # The gateway's probes take a token each, and nobody else asks.
        if not 0 <= one["foreign_tokens"] < 0.1 * one["own_tokens"]:
            wrong.append(f"others took {one['foreign_tokens']} tokens from the {role}")
        if not 0 < one["alone"]["first_token"]["p50"] < one["alone"]["whole_answer"]["p50"]:
            wrong.append(f"times of the {role} cannot be: {one['alone']}")
        if not one["at_once"]["output_tokens_per_second"]:
            wrong.append(f"the {role} gave no tokens")
    quality, bounds = result["quality"], result["bounds"]
    low, high = quality["difference"]["low"], quality["difference"]["high"]
    good = low >= -bounds["tolerance"] and quality["reference_enough"]
    bad = high < -bounds["tolerance"]
    expected = "good_enough" if good else "not_good_enough" if bad else "cannot_tell"
    if result["verdict"] != expected:
        wrong.append(f"the verdict is {result['verdict']}, the interval {low} to {high}")
    if wrong:
        raise StageError("; ".join(wrong))


def refused(what: str, says: tuple[str, ...], **more: str) -> None:
    """Run the verb, which must fail with one of the texts and leave nothing behind."""
    before = results()
    done = subprocess.run(
        on_host("bastion", "tresor", "run", _PLAYBOOK, "--", *options(**more)),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    _must_have_failed(what, says, done.returncode, done.stdout + done.stderr, before)


def _must_have_failed(
    what: str, says: tuple[str, ...], status: int, said: str, before: set[str]
) -> None:
    if status == 0 or not any(text in said for text in says):
        raise StageError(f"{what}: status {status}, expected {says}:\n{said[-2000:]}")
    if results() != before:
        raise StageError(f"{what}: left {sorted(results() - before)} in {_RESULTS}")
    print(f"evaluate: refused as it must be: {what}", flush=True)


def restarted_meanwhile() -> None:
    """Restart the candidate while it is asked: there must be no result."""
    before = results()
    running = subprocess.Popen(
        on_host("bastion", "tresor", "run", _PLAYBOOK, "--", *options()),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=REPOSITORY,
    )  # fmt: skip
    look = ("sh", "-c", "ls -d /tmp/tresor-evaluation.*/prompts.jsonl 2>/dev/null || true")
    until = time.monotonic() + 300
    while not output(on_host("gateway1", *look), what="look for the prompts").strip():
        if running.poll() is not None or time.monotonic() > until:
            said, _ = running.communicate(timeout=600)
            raise StageError(f"evaluate did not begin to ask:\n{said[-2000:]}")
        time.sleep(1)
    time.sleep(15)
    unit = f"tresor-vllm@{CANDIDATE}.service"
    run(on_host("gpu1", "systemctl", "restart", unit), what="restart the candidate")
    said, _ = running.communicate(timeout=1800)
    says = (
        "does not answer", "changed while it was asked", "cannot be reached", "broke off",
        "answered with HTTP 5",  # vLLM says so while it ends
    )  # fmt: skip
    _must_have_failed("an engine that restarts meanwhile", says, running.returncode, said, before)
    left = output(on_host("gateway1", *look), what="look for the prompts").strip()
    if left:
        raise StageError(f"prompts stay on the gateway: {left}")


def main() -> None:
    """Add the second precision, evaluate, refuse what is wrong, and take it away again.

    Raises:
        StageError: a result that cannot be right, or something wrong that was accepted.
    """
    put("bastion", _MODELS, with_float32())
    try:
        operate.tresor("converge", what="converge with the second precision")
        result = evaluate("evaluate.md")
        judge(result)
        own = "".join(json.dumps(line) + "\n" for line in _LINES).encode()
        put("bastion", _OWN, own, mode="0600")
        small = evaluate(
            "evaluate-own.md", evaluation_prompts_file=_OWN, evaluation_judge=REFERENCE
        )
        if small["judge"]["prompts"] != len(_LINES) or small["quality"]["prompts"] != 1:
            raise StageError(f"the site's own prompts were not all judged: {small['judge']}")
        put("bastion", _OWN, own + b'{"id": "d"\n', mode="0600")
        refused(
            "a line that is no JSON", (f"{_OWN} line 4: is no JSON",),
            evaluation_prompts_file=_OWN,
        )  # fmt: skip
        refused(
            "an instance that is none", ("no instance of the plan",),
            evaluation_candidate="chat-gpu9",
        )  # fmt: skip
        restarted_meanwhile()
        (BUILD / "evaluate.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    finally:
        put("bastion", _MODELS, _SOURCE.read_bytes())
        run(on_host("bastion", "rm", "-f", _OWN), what="remove the test's prompts")
        operate.tresor("converge", what="converge without it")
    for reason in result["reasons"]:
        print(f"evaluate: {result['verdict']}: {reason}", flush=True)
    for role, one in result["instances"].items():
        at_once = one["at_once"]["output_tokens_per_second"]
        print(
            f"evaluate: {role} {one['id']}: first token {one['alone']['first_token']['p50']:.3f} s,"
            f" {at_once:.1f} tokens/s with {result['concurrency']} at once, KV cache "
            f"{one['memory']['kv_tokens']} tokens, repeats {100 * one['repeats_itself']:.0f} %",
            flush=True,
        )
