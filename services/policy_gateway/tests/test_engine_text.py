"""What an engine says about a refused request reaches the client only when it is fit for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    NO_GUARDRAILS,
    QUESTION,
    Engine,
    EngineRequest,
    Response,
    Site,
    answer,
)
from tresor_gateway.api.engine_text import one_line, parameter, speaks_of_insides

pytestmark = pytest.mark.asyncio

GENERAL = "The model's engine refused the request."
MAIL = "anna.kovalova@example.org"
KEY = "sk-proj-" + "aB3dE6gH9" * 5


@pytest_asyncio.fixture(name="site")
async def guarded_site(make_site: MakeSite) -> Site:
    return await make_site(guardrails={**NO_GUARDRAILS, "request": {}, "response": {}})


async def refused(
    site: Site, engines: list[Engine], message: Any, status: int = 400, **more: Any
) -> Response:
    async def script(request: EngineRequest, writer: Any) -> None:
        body = {"error": {"message": message, "type": "BadRequestError", **more}}
        await answer(writer, status, json.dumps(body).encode())

    for engine in engines:
        engine.script = script
    return await site.ask(body=QUESTION)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
        "max_tokens must be at least 1, got 0.",
        "Value error, input and/or output is empty [type=value_error, input_value={}]",
        "The path /v1/chat/completions takes no images; see https://docs.vllm.ai/en/latest/x.html",
        "The model acme/small has a ratio of 3/4.",
    ],
)
async def test_explanation_for_users_passes(
    site: Site, engines: list[Engine], message: str
) -> None:
    response = await refused(site, engines, message)
    assert (response.status, response.error["message"]) == (400, message)


@pytest.mark.parametrize(
    "message",
    [
        'Traceback (most recent call last):\n  File "/opt/x/serve.py", line 3, in run',
        "cannot open /opt/tresor/models/sha256-aa/config.json",
        "no such file: '/models'",
        "failed at engine/core/client:12 of core.py:12",
        "error in file:///srv/x",
        "cannot read ~/.cache/huggingface",
        "cannot read C:\\models\\x",
        "<Engine object at 0x7f3a5c0011d0> is dead",
        "vllm/engine/llm failed",
        "../../secrets is missing",
        "kernel.cu:88: assertion failed",
        "x" * 10 + "\u2028/etc/passwd",
        "",
        17,
    ],
)
async def test_insides_of_an_engine_stay_inside(
    site: Site, engines: list[Engine], message: Any
) -> None:
    response = await refused(site, engines, message)
    assert (response.status, response.error["message"]) == (400, GENERAL)


async def test_personal_data_and_secrets_are_masked(site: Site, engines: list[Engine]) -> None:
    response = await refused(site, engines, f"cannot parse {MAIL} and {KEY}")
    text = response.error["message"]
    assert text.startswith("cannot parse [EMAIL_1] and ")
    assert KEY not in text
    await site.stop()
    [record] = site.decisions()
    assert record["reason"] == "engine_refused"
    assert record["findings"]["response.email"] == 1


async def test_data_over_the_cut_is_masked_before_it(site: Site, engines: list[Engine]) -> None:
    response = await refused(site, engines, "word " * 198 + MAIL)
    assert "anna" not in response.error["message"]
    assert len(response.error["message"]) <= 1000


async def test_blocked_text_is_replaced_and_recorded(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(guardrails={**NO_GUARDRAILS, "response": {"email": "block"}})
    response = await refused(site, engines, f"cannot parse {MAIL}")
    assert (response.status, response.error["message"]) == (400, GENERAL)
    await site.stop()
    assert site.decisions()[-1]["guardrails"]["response"] == "block"


async def test_site_without_guardrails_still_hides_paths(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site()
    assert (await refused(site, engines, "bad value")).error["message"] == "bad value"
    assert (await refused(site, engines, "bad /etc/x")).error["message"] == GENERAL


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_other_failures_say_nothing_of_the_engine(
    site: Site, engines: list[Engine], status: int
) -> None:
    response = await refused(site, engines, "plain words", status)
    assert "plain words" not in response.body.decode()


@pytest.mark.parametrize(("status", "seen"), [(400, 400), (413, 413), (422, 400)])
async def test_three_statuses_say_that_the_request_is_wrong(
    site: Site, engines: list[Engine], status: int, seen: int
) -> None:
    response = await refused(site, engines, "too long", status, param="messages[0].content")
    assert (response.status, response.error["message"]) == (seen, "too long")
    assert response.error["param"] == "messages[0].content"


async def test_parameter_is_a_name_or_nothing() -> None:
    assert parameter("max_tokens") == "max_tokens"
    for name in (None, "", "a b", "/etc/x", "x" * 65, "naïve", MAIL):
        assert parameter(name) is None


async def test_text_is_one_line_without_what_is_not_seen() -> None:
    assert one_line(" a\r\n\tb\x1b[31mc\u202ed\0 \u200be ") == "a b [31mc d e"


async def test_words_with_a_slash_are_no_paths() -> None:
    for text in ("and/or", "GET https://example.com/a/b/c", "ratio 3/4", "a / b", "v1/models"):
        assert not speaks_of_insides(text), text
