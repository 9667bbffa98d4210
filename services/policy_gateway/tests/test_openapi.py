"""The published interface is the one that exists, and what it allows is answered with a record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.policy_gateway.fuzz.engine import respond
from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import Engine, EngineRequest, Site
from services.policy_gateway.tests.test_guardrails import use
from tresor_gateway.api import endpoints, openapi, request

PUBLISHED = Path(__file__).parents[3] / "docs" / "openapi.json"


@cache
def document() -> dict[str, Any]:
    return openapi.document()


def test_published_document_is_made_from_the_code() -> None:
    assert PUBLISHED.read_bytes() == openapi.text(), (
        "run: python -m tresor_gateway.api.openapi > docs/openapi.json"
    )


def test_document_lists_exactly_what_exists() -> None:
    listed = {
        (method.upper().encode(), path.encode())
        for path, methods in document()["paths"].items()
        for method in methods
    }
    tasks = frozenset({"chat", "embedding", "rerank"})
    table = endpoints.EndpointTable(tasks, internal=False)
    assert listed == set(table._routes)
    assert b"/internal" not in openapi.text()
    for endpoint in endpoints.PUBLIC:
        assert table.find(endpoint.method, endpoint.target) is endpoint


def test_document_lists_exactly_the_parameters_that_exist() -> None:
    schemas = document()["components"]["schemas"]
    for kind in request.BODY_TYPES.values():
        schema = schemas[kind.__name__]
        assert schema["additionalProperties"] is False
        known = set(kind.__struct_fields__) - {"cache_salt"}
        assert set(schema["properties"]) == known
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for forbidden in ("chat_template", "prompt_embeds", "cache_salt", "guided_json", "image_url"):
        assert f'"{forbidden}"' not in json.dumps(schemas)


def resolved(name: str) -> dict[str, Any]:
    """A schema of the document with everything it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that obey a schema of the document (the keywords that msgspec writes, no others)."""
    known = {"anyOf", "enum", "type", "properties", "required", "items", "pattern", "minLength"}
    known |= {"maxLength", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum"}
    known |= {"additionalProperties", "maxProperties", "title", "description", "default", "$ref"}
    assert set(schema) - {"discriminator"} <= known, schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return instances(document()["components"]["schemas"][name])
    if "anyOf" in schema:
        return st.one_of([instances(choice) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _OF_TYPE[schema.get("type", "any")](schema)


def _objects(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        return st.dictionaries(st.text(max_size=5), _SIMPLE, max_size=2)
    parts = {name: instances(part) for name, part in schema["properties"].items()}
    required = {name: parts.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=parts)


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(min_size=schema.get("minLength", 0), max_size=20)


def _numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    edge = "exclusiveMinimum" in schema
    return st.floats(low, schema.get("maximum"), exclude_min=edge, allow_nan=False)


_SIMPLE = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
_OF_TYPE: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "any": lambda _: _SIMPLE,
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema.get("minimum"), schema.get("maximum")),
    "number": _numbers,
    "string": _strings,
    "array": lambda schema: st.lists(
        instances(schema.get("items", {})),
        min_size=schema.get("minItems", 0),
        max_size=min(3, schema.get("maxItems", 3)),
    ),
    "object": _objects,
}


def generated(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Examples of a strategy; an event loop cannot be asked from within a property."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def bodies(name: str, model: str, count: int) -> list[bytes]:
    """Bodies that the document allows, and such with one member that may be anything."""
    schema = document()["components"]["schemas"][name]
    good = instances(schema).map(lambda value: {**value, "model": model})
    members = st.sampled_from(sorted(schema["properties"])) | st.text(max_size=8)
    bent = st.builds(lambda value, key, new: {**value, key: new}, good, members, VALUES)
    return [json.dumps(value).encode() for value in generated(good, count) + generated(bent, count)]


@pytest.mark.asyncio
@pytest.mark.parametrize("endpoint", endpoints.PUBLIC[1:], ids=lambda endpoint: endpoint.name)
async def test_whatever_is_sent_is_answered_as_documented_and_recorded(
    make_site: MakeSite, engines: list[Engine], endpoint: endpoints.Endpoint
) -> None:
    one = [{"url": engines[0].url}]
    tasks = ("chat", "embedding", "rerank")
    site: Site = await make_site(
        models=[{"name": task, "task": task, "replicas": one} for task in tasks],
        access=[
            {"group": "llm-users", "models": [endpoint.tasks[0]], "endpoints": [endpoint.name]}
        ],
        guardrails={"request": {}, "response": {}},
        limits={"max_body_bytes": 1 << 20},
    )
    use(engines, answers)
    operation = document()["paths"][endpoint.target.decode()]["post"]
    validators = {
        status: jsonschema.Draft202012Validator(
            resolved(answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2])
        )
        for status, answer in operation["responses"].items()
    }
    sent = bodies(request.BODY_TYPES[endpoint.name].__name__, endpoint.tasks[0], 15)
    reasons: list[str] = []
    for body in sent:
        response = await site.ask(endpoint.target.decode(), body=body)
        if response.headers["content-type"] == "application/json":
            validators[str(response.status)].validate(response.json)
        else:
            assert response.status == 200
        reasons.append(response.headers["x-request-id"])
    await site.stop()
    decisions = site.decisions()
    assert [record["request_id"] for record in decisions] == reasons
    for record in decisions:
        # The engine answers every question alike, which obeys few schemas.
        assert record["status"] < 500 or record["reason"] == "output_schema", record
    assert sum(record["status"] == 200 for record in decisions) >= 5


async def answers(request: EngineRequest, writer: asyncio.StreamWriter) -> None:

    await respond(request.target, request.body, writer)
