"""The closing screen of the demo, from its figures alone."""

from __future__ import annotations

from typing import Any

_WIDTH = 78


# What the figures are held to, in seconds, on two cores.
TARGETS = {"boot": 15, "converge again": 90}


def _stage(name: str, seconds: float) -> str:
    target = TARGETS.get(name)
    note = (
        "" if target is None else f"   (target {target} s{'' if seconds <= target else ', MISSED'})"
    )
    return f"  {name:<16}{seconds:>8.1f} s{note}"


def render(figures: dict[str, Any]) -> str:
    """Return the screen as text; ``figures`` is the content of ``build/demo.json``."""
    rule = "=" * _WIDTH
    stages = "\n".join(_stage(name, s) for name, s in figures["stage_seconds"].items())
    verify = figures["verify"]
    return f"""
{rule}
Tresor: an air-gapped site is up (lab {figures["lab"]})
{rule}
Stages
{stages}
  {"total":<16}{figures["total_seconds"]:>8.1f} s   (nine hosts booted in \
{figures["boot_seconds"]} s)
Second converge: changed={figures["second_converge_changed"]}; converge --check: no change

Question  {figures["question"]}
Answer    {figures["answer"]}
          {figures["answer_tokens"]} tokens, {figures["tokens_per_second"]} tokens/s, first after \
{figures["first_token_seconds"]} s, request {figures["request_id"]}

Verify    {verify["passed"]} passed, {verify["failed"]} failed
Internet  {figures["internet_packets"]} packets from the site at internet1; the same probe with \
flushed
          rules: {figures["internet_packets_with_rules_flushed"]} packets arrived (the control)
Approval  by two generated keys (an unattended demo has no people): lab-approver-1, -2

Ask yourself
  molecule/lab/labctl exec company1 curl -s --cacert /opt/company-client/site-ca.crt \\
    -H "Authorization: Bearer $(molecule/lab/labctl token alice)" \\
    -H "Content-Type: application/json" https://llm.site.example/v1/chat/completions \\
    -d '{{"model":"smollm2-135m-instruct","messages":[{{"role":"user","content":"Hello"}}]}}'
Where things are
  figures     build/demo.json
  operator    molecule/lab/labctl exec bastion tresor runs
  evidence    bastion:{figures["evidence"]}
  hosts       make lab-status
Take it down
  make lab-destroy
{rule}"""
