"""The whole way: fake engines over mutual TLS, answers, judge, result, page, and what stops it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tresor.evaluate.asking import Answer, Instance, ask
from tresor.evaluate.errors import EvaluateError, InstanceError
from tresor.evaluate.identity import Identity, identify
from tresor.evaluate.judge import CANDIDATE, REFERENCE, TIE, preference
from tresor.evaluate.judgement import Bounds, evaluate
from tresor.evaluate.page import page
from tresor.evaluate.prompts import Prompts, read_prompts
from tresor.evaluate.runner import WARM_UP, Wanted, run

from .conftest import Certificates, Engine, Say, Start, file_of, line

COUNT = 8


def prompts_of(count: int = COUNT) -> Prompts:
    lines = [line(n, {"kind": "numeric", "value": n}) for n in range(1, count + 1)]
    return read_prompts(file_of(lines), "p.jsonl")


def number(request: dict[str, Any]) -> int:
    return int(request["messages"][-1]["content"].split()[-1])


def right(request: dict[str, Any]) -> str:
    return f"it is {number(request)}"


def wrong_from(limit: int) -> Say:
    return lambda request: right(request) if number(request) < limit else "it is <b>0</b> | none"


class Site:
    """Both engines, a judge if wanted, and a run over them."""

    def __init__(self, start: Start, certificates: Certificates, first: Say, second: Say) -> None:
        self.context = certificates.client()
        self.reference: tuple[Engine, Instance] = start("chat-gpu1", first)
        self.candidate: tuple[Engine, Instance] = start("chat-fp8-gpu2", second)
        self.judge: Instance | None = None

    def run(self, prompts: Prompts, concurrency: int = 4) -> dict[str, Any]:
        wanted = Wanted(self.reference[1], self.candidate[1], self.judge, concurrency)
        found: dict[str, Any] = json.loads(json.dumps(run(wanted, prompts, self.ask, self.look)))
        return found

    def shortened(self, prompts: Prompts) -> dict[str, Any]:
        """Run with the engines' words alone: many prompts without many handshakes."""
        engines = {i.id: e for e, i in (self.reference, self.candidate)}

        def say(instance: Instance, messages: Sequence[Mapping[str, str]], _tokens: int) -> Answer:
            text = engines[instance.id].say({"messages": messages})
            return Answer(text, len(text.split()), 0.1, 0.5, "stop")

        wanted = Wanted(self.reference[1], self.candidate[1], None, 4)
        return run(wanted, prompts, say, self.look)

    def ask(self, instance: Instance, messages: Sequence[Mapping[str, str]], tokens: int) -> Answer:
        return ask(instance, messages, tokens, self.context, 5.0)

    def look(self, instance: Instance) -> Identity:
        return identify(instance, self.context, 5.0)


def judged(answers: dict[str, Any], prompts: Prompts, **bounds: float) -> dict[str, Any]:
    memory = {"chat-gpu1": {"kv_tokens": 46592, "weights_predicted_gib": 0.25}}
    about = {"site": "example", "finished": "2026-11-25T14:00:00Z"}
    return evaluate(answers, prompts, Bounds(**bounds), memory=memory, about=about)


def test_equal_answers_are_good_enough_only_with_enough_prompts(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, right, right)
    few, many = prompts_of(30), prompts_of(60)
    answers = site.shortened(few)
    assert judged(answers, few)["verdict"] == "cannot_tell"
    assert "about 60 like these would" in judged(answers, few)["reasons"][0]
    result = judged(site.shortened(many), many)
    assert result["verdict"] == "good_enough"
    assert result["worst"] == []
    assert result["instances"]["reference"]["repeats_itself"] == 1
    assert "Both gave the same answers." in page(result)


def test_engines_are_asked_greedily_in_turns_and_nobody_else_is_counted(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, right, right)
    answers = site.run(prompts_of())
    for engine, _ in (site.reference, site.candidate):
        assert len(engine.requests) == 2 * COUNT + WARM_UP
        assert {(r["temperature"], r["seed"], r["stream"]) for r in engine.requests} == {
            (0, 7, True)
        }
    told = answers["instances"]["reference"]
    assert (told["own_tokens"], told["foreign_tokens"]) == (3 * (2 * COUNT + WARM_UP), 0)
    assert told["identity"]["cache"] == {"block_size": "16", "kv_cache_size_tokens": "46592"}


def test_worse_candidate_is_refused_with_its_worst_answers_escaped(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, right, wrong_from(8))
    prompts = prompts_of(20)
    result = judged(site.shortened(prompts), prompts)
    assert result["verdict"] == "not_good_enough"
    assert (result["quality"]["gains"], result["quality"]["losses"]) == (0, 13)
    assert len(result["worst"]) == 10
    text = page(result)
    assert text.startswith("# chat-fp8-gpu2 in place of chat-gpu1: not good enough\n")
    assert "<b>" not in text
    assert r"&lt;b&gt;0&lt;/b&gt; \| none" in text
    assert "| KV cache, tokens | 46,592 | - |" in text


def test_prompts_that_the_reference_fails_too_say_nothing(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, wrong_from(3), wrong_from(3))
    prompts = prompts_of(80)
    result = judged(site.shortened(prompts), prompts)
    assert result["verdict"] == "cannot_tell"
    assert "too hard for this model" in result["reasons"][0]


def test_others_on_the_engine_are_told(start: Start, certificates: Certificates) -> None:
    def disturbed(request: dict[str, Any]) -> str:
        if number(request) == 3:
            site.reference[0].generated += 7
        return right(request)

    site = Site(start, certificates, disturbed, right)
    prompts = prompts_of()
    result = judged(site.run(prompts), prompts)
    assert "others took 14 tokens from the reference meanwhile, beside 54 of" in page(
        result
    ).replace("\n", " ")


def test_instance_that_changes_meanwhile_ends_without_a_result(
    start: Start, certificates: Certificates
) -> None:
    def restart(request: dict[str, Any]) -> str:
        site.candidate[0].started = 2000.0
        return right(request)

    site = Site(start, certificates, right, restart)
    with pytest.raises(InstanceError, match=r"chat-fp8-gpu2 changed .* was 1000.0 and is 2000.0"):
        site.run(prompts_of())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 400}, "prompt p1: instance chat-fp8-gpu2: answered with HTTP 400"),
        ({"breaks": True}, "prompt p1: instance chat-fp8-gpu2: the stream broke off: it lacks"),
        ({"model": "llama"}, "chat-fp8-gpu2 serves llama, the plan says qwen"),
    ],
)
def test_instance_that_does_not_answer_ends_it(
    start: Start, certificates: Certificates, change: dict[str, Any], says: str
) -> None:
    site = Site(start, certificates, right, right)
    for name, value in change.items():
        setattr(site.candidate[0], name, value)
    with pytest.raises(InstanceError) as caught:
        site.run(prompts_of())
    assert says in str(caught.value)


def test_instance_that_fails_among_others_ends_it(start: Start, certificates: Certificates) -> None:
    def late(request: dict[str, Any]) -> str:
        engine = site.candidate[0]
        engine.breaks = len(engine.requests) > COUNT + WARM_UP + 3
        return right(request)

    site = Site(start, certificates, right, late)
    with pytest.raises(InstanceError, match="the stream broke off"):
        site.run(prompts_of())


def test_client_without_the_certificate_gets_nothing(
    start: Start, certificates: Certificates
) -> None:
    import ssl

    site = Site(start, certificates, right, right)
    site.context = ssl.create_default_context(cafile=str(certificates.certificate))
    with pytest.raises(InstanceError, match="cannot be reached"):
        site.run(prompts_of())


def test_answers_to_other_prompts_are_refused(start: Start, certificates: Certificates) -> None:
    answers = Site(start, certificates, right, right).run(prompts_of())
    with pytest.raises(EvaluateError, match="do not belong to these prompts"):
        judged(answers, prompts_of(7))


def fair(request: dict[str, Any]) -> str:
    """Judge as a fair one would: whoever names the number itself is better."""
    said = request["messages"][-1]["content"]
    first = said.split("### ")[2]
    return "[[B]]" if "none" in first else "[[A]]"


def test_judge_is_asked_in_both_orders_in_the_language_of_the_prompt(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, right, wrong_from(5))
    judge, site.judge = start("judge-gpu3", fair)
    prompts = prompts_of()
    result = judged(site.run(prompts), prompts)
    found = result["judge"]
    assert (found["id"], found["losses"], found["wins"], found["ties"]) == ("judge-gpu3", 4, 0, 4)
    assert len(judge.requests) == 2 * 4
    systems = {request["messages"][0]["content"].split()[0] for request in judge.requests}
    assert systems == {"Du", "You"}


@pytest.mark.parametrize(
    ("verdicts", "winner", "readable"),
    [
        (("Gut. [[A]]", "[[B]]"), REFERENCE, True),
        (("[[B]]", "[[A]]"), CANDIDATE, True),
        (("[[A]]", "[[A]]"), TIE, True),
        (("[[C]]", "[[A]]"), TIE, True),
        (("Beide sind schön.", "[[A]]"), TIE, False),
        (("[[A]] nein, [[B]]", "[[A]]"), CANDIDATE, True),
    ],
)
def test_only_a_preference_in_both_orders_counts(
    verdicts: tuple[str, str], winner: str, readable: bool
) -> None:
    said = iter(verdicts)
    prompt = prompts_of(1).items[0]
    assert preference(prompt, "x", "y", lambda _: next(said)) == (winner, readable)


def test_judge_that_nobody_can_read_does_not_decide(
    start: Start, certificates: Certificates
) -> None:
    site = Site(start, certificates, right, wrong_from(5))
    _, site.judge = start("judge-gpu3", lambda _: "Both are fine.")
    prompts = prompts_of()
    result = judged(site.run(prompts), prompts, tolerance=0.5)
    assert result["judge"]["verdict"] == "cannot_tell"
    assert "could not be read: take another judge" in result["reasons"][1]


def test_result_is_json_with_figures_of_both(
    start: Start, certificates: Certificates, tmp_path: Path
) -> None:
    site = Site(start, certificates, right, right)
    prompts = prompts_of()
    result = json.loads(json.dumps(judged(site.run(prompts), prompts)))
    for one in result["instances"].values():
        assert 0 < one["alone"]["first_token"]["p50"] <= one["alone"]["whole_answer"]["p95"]
        assert one["at_once"]["output_tokens_per_second"] > 0
