"""``make demo``: all stages with their times, one question, and a short closing screen."""

from __future__ import annotations

import json
import time
from typing import Any

from stages import ask, boot, operate, screen, site_import
from stages.figures import Figures
from stages.shell import BUILD, StageError, lab, output


def main() -> None:
    """Run the demo; the site stays up.

    Raises:
        StageError: a stage failed, or what it showed is not good enough (see ``judge``).
    """
    figures = Figures()
    boot.preflight()
    with figures.stage("bundle"):
        built = boot.trees_and_bundle()
    with figures.stage("boot"):
        boot.hosts()
    with figures.stage("company"):
        boot.company(built)
        boot.inventory()
        boot.internet_counter(reset=True)
    with figures.stage("import"):
        built = site_import.supersede(built)
        site_import.import_bundle(built)
    with figures.stage("converge"):
        converged = operate.converge()
        operate.trust_collector()
    with figures.stage("converge again"):
        again = operate.converge()
    with figures.stage("converge --check"):
        operate.check_mode()
    with figures.stage("ask"):
        ask.install_client()
        answer = ask.ask()
    with figures.stage("verify"):
        evidence = operate.verify("--skip-tags", "control")
        report = operate.evidence_path()
    leaked = boot.internet_counter()
    with figures.stage("control"):
        operate.verify("--tags", "control")
        control = boot.internet_counter(reset=True)
    lab_status = json.loads(output(lab("status", "--json"), what="status"))
    figures.values |= {
        "lab": lab_status["name"],
        "question": ask.QUESTION,
        "answer": answer.text,
        "answer_tokens": answer.tokens,
        "answer_events": answer.events,
        "tokens_per_second": answer.tokens_per_second,
        "first_token_seconds": answer.first_token_seconds,
        "request_id": answer.request_id,
        "internet_packets": leaked["packets"],
        "internet_packets_with_rules_flushed": control["packets"],
        "verify": evidence["totals"],
        "evidence": report,
        "converge_changed": converged["changed"],
        "second_converge_changed": again["changed"],
        "second_converge_seconds": again["seconds"],
        "boot_seconds": figures.stages["boot"],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    figures.write(BUILD / "demo.json")
    judge(figures.as_json())
    print(screen.render(figures.as_json()))


def judge(figures: dict[str, Any]) -> None:
    """Refuse to call a demo good that is not; ``figures`` is the content of ``build/demo.json``.

    Raises:
        StageError: with everything that is wrong.
    """
    wrong = []
    if not figures["answer"].strip() or figures["answer_tokens"] < 2:
        wrong.append(f"the model's answer is {figures['answer']!r}, expected a sentence")
    if figures["answer_events"] <= 2:
        wrong.append(f"the answer came in {figures['answer_events']} events, expected a stream")
    if figures["second_converge_changed"]:
        wrong.append(
            f"the second converge changed {figures['second_converge_changed']} things, expected 0"
        )
    if figures["verify"]["failed"] or not figures["verify"]["passed"]:
        wrong.append(f"verify says {figures['verify']}")
    if figures["internet_packets"]:
        wrong.append(
            f"internet1 received {figures['internet_packets']} packets from the site, expected 0"
        )
    if not figures["internet_packets_with_rules_flushed"]:
        wrong.append(
            "the control probe with flushed rules did not reach internet1: "
            "the zero of the other probes proves nothing"
        )
    if wrong:
        raise StageError("; ".join(wrong))
