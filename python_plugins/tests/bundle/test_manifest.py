"""``bundle.json``: what the strict parser refuses, and that the JSON Schema says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tresor.bundle
from python_plugins.tests.bundle.helpers import Maker, Site
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.errors import RejectedError
from tresor.bundle.manifest import parse_manifest
from tresor.bundle.paths import check_path, check_unique

SCHEMAS = Path(tresor.bundle.__path__[0]).parent / "schema"


def schema(name: str) -> jsonschema.Draft202012Validator:
    document = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


Document = dict[str, Any]


def put(key: str, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document[key] = value

    return change


def put_part(key: str, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["parts"][0][key] = value

    return change


def put_file(key: str, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["parts"][0]["files"][0][key] = value

    return change


def drop(key: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        del document[key]

    return change


SHAPE = [
    (put("serial", 0), "manifest.value"),
    (put("serial", True), "manifest.value"),
    (put("serial", "1"), "manifest.value"),
    (put("id", "../x"), "manifest.value"),
    (put("created", "2026-11-20"), "manifest.value"),
    (put("surprise", 1), "manifest.unknown"),
    (drop("audience"), "manifest.missing"),
    (put("parts", []), "manifest.value"),
    (put("audience", {"site": "*", "arch": [], "os": ["x"]}), "manifest.value"),
    (put("base", {"id": "x", "digest": "md5:1"}), "manifest.value"),
    (put_part("scope", "secret"), "manifest.value"),
    (put_part("type", "tarball"), "manifest.value"),
    (put_part("name", "UPPER"), "manifest.value"),
    (put_part("owner", "root"), "manifest.unknown"),
    (put_file("size", -1), "manifest.value"),
    (put_file("sha256", "A" * 64), "manifest.value"),
    (put_file("mode", 0o777), "manifest.unknown"),
    (put_file("path", "a/../b"), "manifest.path"),
    (put_file("path", ".git/config"), "manifest.path"),
    (put_file("path", "/etc/passwd"), "manifest.path"),
]


@pytest.mark.parametrize(("change", "rule"), SHAPE)
def test_wrong_shape_is_refused_by_parser_and_schema(
    maker: Maker, change: Callable[[Document], None], rule: str
) -> None:
    document = json.loads(dump_canonical(maker.manifest()))
    schema("bundle").validate(document)
    change(document)
    with pytest.raises(RejectedError) as caught:
        parse_manifest(dump_canonical(document))
    assert caught.value.rule == rule
    assert caught.value.path
    assert not schema("bundle").is_valid(document)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b'{"schema":"bundle/v1","schema":"bundle/v1"}', "manifest.json"),
        (b'{"schema":"bundle/v1","serial":1.0}', "manifest.json"),
        (b'{"schema":"bundle/v1","serial":NaN}', "manifest.json"),
        (b'{"schema": "bundle/v1"}', "manifest.canonical"),
        (b'{"schema":"bundle/v2"}', "manifest.schema"),
        (b"[]", "manifest.type"),
        (b"\xff", "manifest.json"),
        (b"[" * 100_000, "manifest.json"),
        (b'{"a":"\\ud800","schema":"bundle/v1"}', "canonical.type"),
    ],
)
def test_bytes_that_are_not_one_strict_document_are_refused(raw: bytes, rule: str) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_manifest(raw)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    "path",
    ["", "a//b", "a/", "-rf", "a/-x", ".hidden", "a/..", "a b", "a\\b", "e\u0301", "ä", "a\0b",
     "x" * 201, "GIT~1/config", "a:b"],
)  # fmt: skip
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(RejectedError):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", "x" * 200, "torch-2+cpu~1@=_.whl"])
def test_ordinary_paths_pass(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("paths", [["a", "A"], ["a/b", "a"], ["a", "a"], ["X/y", "x"]])
def test_colliding_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(RejectedError):
        check_unique(paths)


def test_one_digest_with_two_sizes_is_refused(maker: Maker) -> None:
    document = json.loads(dump_canonical(maker.manifest()))
    files = document["parts"][1]["files"]
    files[0]["sha256"] = files[1]["sha256"]
    with pytest.raises(RejectedError, match=r"manifest\.size-conflict"):
        parse_manifest(dump_canonical(document))


def test_unsorted_parts_are_refused(maker: Maker) -> None:
    document = json.loads(dump_canonical(maker.manifest()))
    document["parts"].reverse()
    with pytest.raises(RejectedError, match=r"manifest\.order"):
        parse_manifest(dump_canonical(document))


def test_records_of_a_release_obey_their_schemas(site: Site, maker: Maker) -> None:
    maker.make()
    site.full(maker)
    for name in ("release", "receipt"):
        schema(name).validate(json.loads((site.store.current / f"{name}.json").read_bytes()))
