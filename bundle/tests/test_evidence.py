"""What a bundle says about itself is complete, valid and judged before it is written."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
import yaml

from bundle.builder import advisory_database, chat_templates, models
from bundle.builder.build import build
from bundle.builder.errors import BuilderError, LockError, PolicyError, SpecError
from bundle.builder.evidence import Outside
from bundle.builder.inventory import NAMESPACE, read
from bundle.builder.licence_names import from_hints
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.lockdiff import diff, reason
from bundle.tests import makers
from bundle.tests.helpers import HEADER, NOW, Site
from tresor.bundle.manifest import parse_manifest
from tresor.policy import evaluate, sbom
from tresor.policy.models import is_allowed_file
from tresor.policy.verdict import Verdict

REASON = "A reason that explains why this is harmless."


def document(site: Site, path: str) -> dict[str, Any]:
    (raw,) = (site.out / "bundle/targets").glob("*.bundle.json")
    manifest = parse_manifest(raw.read_bytes())
    (entry,) = [item for part in manifest.parts for item in part.files if item.path == path]
    content: dict[str, Any] = json.loads(
        (site.out / "bundle/blobs" / entry.sha256[:2] / entry.sha256).read_bytes()
    )
    return content


def verdicts(site: Site) -> list[Verdict]:
    return [Verdict(**row) for row in json.loads((site.out / "gates.json").read_text())]


def test_bill_of_materials_obeys_the_official_schema(small: Site) -> None:
    build(small.resolver(), small.locks, small.options(), NOW)
    folder = importlib.resources.files("cyclonedx.schema") / "_res"
    schemas = {}
    for name in ("bom-1.6", "spdx", "jsf-0.82"):
        text = (folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8")
        schemas[f"{name}.SNAPSHOT.schema.json"] = json.loads(text)
    registry: Any = referencing.Registry()
    for name, schema in schemas.items():
        made = referencing.Resource.from_contents(schema)
        registry = registry.with_resource(f"http://cyclonedx.org/schema/{name}", made)
    validator = jsonschema.Draft7Validator(
        schemas["bom-1.6.SNAPSHOT.schema.json"], registry=registry
    )
    bill = document(small, sbom.FILE)
    assert [error.message for error in validator.iter_errors(bill)] == []
    assert [error.message for error in validator.iter_errors({**bill, "components": 1})] != []


def test_every_file_of_the_bundle_is_listed_with_licence_and_digest(small: Site) -> None:
    build(small.resolver(), small.locks, small.options(), NOW)
    found = {item["name"]: item for item in document(small, sbom.FILE)["components"]}
    assert found["demo"]["licenses"] == [{"expression": "MIT"}]
    assert found["tiny"]["type"] == "machine-learning-model"
    assert found["tiny"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert [item["name"] for item in found["tiny"]["components"]] == [
        "config.json",
        "model.safetensors",
    ]
    assert {item.severity for item in verdicts(small)} <= {"pass", "note", "red", "refuse"}
    assert {item.rule for item in evaluate.refusals(verdicts(small))} == {
        "malware.missing",
        "vulnerabilities.no-database",
    }


def spoil_wheel(site: Site, **more: Any) -> None:
    file, raw = makers.wheel("demo", "1.0", more.pop("members", {"demo.py": b""}), **more)
    path = site.wheels / file
    path.write_bytes(raw)
    site.lock("wheels-demo", [path])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": ""}, r"licences\.unknown: pkg:pypi/demo@1\.0"),
        ({"metadata": "License-Expression: SSPL-1.0\n"}, r"licences\.refused"),
        ({"members": {"evil.pth": b"import os"}}, r"wheels\.start-up"),
        ({"entry_points": "[vllm.general_plugins]\nx = demo:x\n"}, r"wheels\.plugin"),
    ],
)
def test_what_a_site_would_refuse_is_not_written(
    small: Site, change: dict[str, Any], words: str
) -> None:
    before = build(small.resolver(), small.locks, small.options(), NOW)
    spoil_wheel(small, **change)
    with pytest.raises(PolicyError, match=words):
        build(small.resolver(), small.locks, small.options(), NOW)
    assert (before.folder / f"targets/{before.digest}.bundle.json").exists()


def test_reviewed_exceptions_of_the_spec_are_taken_and_shown(small: Site) -> None:
    spoil_wheel(small, metadata="", members={"demo.py": b"", "x.pth": b""})
    allow = {"rule": "wheels.start-up", "package": "demo", "values": ["x.pth"], "reason": REASON}
    decision = {"packages": ["pkg:pypi/demo"], "licence": "LicenseRef-X", "reason": REASON}
    policy = {
        "allow": [allow],
        "decisions": [decision],
        "licences": [{"licence": "LicenseRef-X", "reason": REASON}],
    }
    small.write_spec("policy.yml", {"policy": policy})
    build(small.resolver(), small.locks, small.options(), NOW)
    rules = [item.rule for item in verdicts(small) if item.severity == "note"]
    assert "wheels.start-up" in rules
    assert "licences.declared" in rules


def waive(site: Site) -> None:
    rows = [
        {"kind": kind, "site": "lab", "reason": REASON, "approved_by": "Ada", "valid_days": 30}
        for kind in ("vulnerability-database", "malware-scan")
    ]
    site.write_spec("lab/policy.yml", {"policy": {"waivers": rows}})


def test_waiver_of_the_lab_is_red_and_stays_in_the_lab(
    small: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    waive(small)
    build(small.resolver(), small.locks, small.options(), NOW)
    assert evaluate.refusals(verdicts(small)) == []
    assert "RED: vulnerability-database: WAIVED until 2026-12-23 for site lab" in (
        capsys.readouterr().err
    )
    build(small.resolver(), small.locks, small.options(scopes=("product",)), NOW)
    assert "waivers" in document(small, "policy.json")
    assert document(small, "policy.json")["waivers"] == []


def test_ended_waiver_needs_a_new_date_and_gets_it_only_on_demand(small: Site) -> None:
    waive(small)
    later = NOW + timedelta(days=60)
    build(small.resolver(), small.locks, small.options(), later)
    assert evaluate.refusals(verdicts(small)) != []
    built = build(small.resolver(), small.locks, small.options(relock_missing=True), later)
    assert built.id == "2026.11-7+relock"
    assert evaluate.refusals(verdicts(small)) == []


def record(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "PYSEC-1",
        "modified": "2026-11-22T00:00:00Z",
        "published": "2026-09-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "demo"},
                "ranges": [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}
                ],
            }
        ],
        "database_specific": {"severity": "HIGH", "cvss_score": 8.1},
    }
    return {**found, **changes}


def database(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, item in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(item))
    return folder


def test_database_gives_a_report_that_covers_everything(small: Site, tmp_path: Path) -> None:
    clean = record(affected=[{"package": {"ecosystem": "PyPI", "name": "other"}}])
    outside = Outside(database=advisory_database.load(database(tmp_path / "osv", clean)))
    build(small.resolver(), small.locks, small.options(outside=outside), NOW)
    report = document(small, "report.json")
    bill = document(small, sbom.FILE)
    assert set(report["audited"]) == {item["purl"] for item in bill["components"]}
    assert [item.rule for item in evaluate.refusals(verdicts(small))] == ["malware.missing"]


def test_open_finding_stops_the_build_until_a_statement_covers_it(
    small: Site, tmp_path: Path
) -> None:
    outside = Outside(database=advisory_database.load(database(tmp_path / "osv", record())))
    with pytest.raises(PolicyError, match=r"PYSEC-1 pkg:pypi/demo@1\.0"):
        build(small.resolver(), small.locks, small.options(outside=outside), NOW)
    statement = {
        "vulnerability": "PYSEC-1",
        "products": [{"@id": "pkg:pypi/demo@1.0"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "impact_statement": "Never called.",
        "status_notes": "expires=2027-01-01T00:00:00Z",
    }
    path = tmp_path / "vex.json"
    path.write_text(
        json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [statement]})
    )
    build(small.resolver(), small.locks, small.options(outside=replace(outside, vex=path)), NOW)
    assert "vulnerabilities.vex" in [item.rule for item in verdicts(small)]


def test_advisories_for_an_installed_bundle_are_chosen_and_matched(
    small: Site, tmp_path: Path
) -> None:
    build(small.resolver(), small.locks, small.options(), NOW)
    bill = json.dumps(document(small, sbom.FILE)).encode()
    other = record(id="X", affected=[{"package": {"ecosystem": "PyPI", "name": "other"}}])
    news = json.loads(
        advisory_database.news(
            bill, advisory_database.load(database(tmp_path / "osv", record(), other))
        )
    )
    assert [item["id"] for item in news["records"]] == ["PYSEC-1"]
    assert news["records"][0]["database_specific"]["cvss_score"] == "8.1"


def test_empty_or_broken_database_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "osv"
    folder.mkdir()
    with pytest.raises(BuilderError, match="no OSV record"):
        advisory_database.load(folder)
    (folder / "x.json").write_text("{}")
    with pytest.raises(BuilderError, match="remove it"):
        advisory_database.load(folder)


# Licence names


@pytest.mark.parametrize(
    ("expression", "hints", "wanted"),
    [
        ("MIT OR Apache-2.0", (), "MIT OR Apache-2.0"),
        ("", ("Apache 2.0",), "Apache-2.0"),
        ("", ("MIT License\n\nCopyright (c) somebody",), "MIT"),
        ("", ("BSD",), "BSD-3-Clause OR BSD-2-Clause"),
        ("", ("License :: OSI Approved :: MIT License",), "MIT"),
        (
            "",
            ("License :: OSI Approved :: BSD License", "License :: OSI Approved :: MIT License"),
            "(BSD-3-Clause OR BSD-2-Clause) AND MIT",
        ),
        ("", ("UNKNOWN", "License :: OSI Approved :: MIT License"), "MIT"),
        ("", ("free for friends",), ""),
        ("", ("License :: Other/Proprietary License",), ""),
        ("", (), ""),
        ("not spdx at all", (), ""),
    ],
)
def test_licence_names(expression: str, hints: tuple[str, ...], wanted: str) -> None:
    assert from_hints(expression, hints) == wanted


def test_builder_and_gate_allow_the_same_files_in_a_model() -> None:
    assert models.is_allowed is is_allowed_file


# Lock diffs


def entry(name: str, version: str, digest: str = "a", size: int = 1_000_000) -> LockedFile:
    return LockedFile(name, version, f"{name}-{version}", size, digest * 64)


def part(*files: LockedFile, inputs: str = "1") -> PartLock:
    return PartLock("wheels-x", "wheels", inputs, files)


def test_lock_diff_says_what_and_why() -> None:
    old = part(entry("a", "1", "1"), entry("b", "1", "2"), entry("c", "1", "3"), entry("e", "1"))
    new = part(
        entry("a", "2", "4", 3_000_000), entry("b", "1", "5"), entry("d", "1", "6"), entry("e", "1")
    )
    lines = diff(old, new, reason(old, "2", upgrade=False))
    assert lines[0] == (
        "wheels-x: the spec, or the requirements of one of our projects, changed; +0 files, +2.0 MB"
    )
    assert lines[1] == "  ~ a 1 -> 2 (1.0 -> 3.0 MB)"
    assert lines[2].startswith("  ! b 1: OTHER CONTENT UNDER THE SAME VERSION")
    assert lines[3:] == ["  - c 1", "  + d 1 (1.0 MB)"]
    assert diff(old, old, "x") == []
    assert reason(None, "1", upgrade=False) == "new in the spec"
    assert reason(old, "1", upgrade=True) == "asked for with --upgrade"


# Inventories


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    key = tmp_path / "site-key"
    subprocess.run(
        ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True
    )
    public = key.with_suffix(".pub").read_text()
    (tmp_path / "signers").write_text(f'bank-1 namespaces="{NAMESPACE}" {public}')
    return key


def inventory(signer: Path, namespace: str = NAMESPACE, **changes: Any) -> Path:
    value = {
        "schema": "inventory/v1",
        "site": "bank-1",
        "serial": 5,
        "bundle": {"id": "2026.11-5", "digest": "sha256:" + "b" * 64},
        "blobs": [],
        **changes,
    }
    path = signer.with_name("inventory.json")
    path.write_text(json.dumps(value))
    Path(f"{path}.sig").unlink(missing_ok=True)
    subprocess.run(
        ["/usr/bin/ssh-keygen", "-q", "-Y", "sign", "-f", str(signer), "-n", namespace, str(path)],
        check=True,
        capture_output=True,
    )
    return path


def test_delta_leaves_out_what_the_site_signed_for(small: Site, signer: Path) -> None:
    full = build(small.resolver(), small.locks, small.options(), NOW)
    held = {path.name for path in (full.folder / "blobs").rglob("*") if path.is_file()}
    spoil_wheel(small, members={"demo.py": b"changed"})
    listed = read(inventory(signer, blobs=sorted(held)), signer.with_name("signers"))
    delta = build(small.resolver(), small.locks, small.options(inventory=listed), NOW)
    (raw,) = (delta.folder / "targets").glob("*.bundle.json")
    data = json.loads(raw.read_bytes())
    manifest = parse_manifest(raw.read_bytes())
    assert data["audience"]["site"] == "bank-1"
    assert data["base"] == {"id": "2026.11-5", "digest": "sha256:" + "b" * 64}
    carried = {path.name for path in (delta.folder / "blobs").rglob("*") if path.is_file()}
    assert carried == set(manifest.blobs()) - held
    assert carried and not carried & held
    assert delta.size == sum(manifest.blobs()[digest].size for digest in carried)


def test_delta_needs_a_newer_serial_and_the_right_site(small: Site, signer: Path) -> None:
    listed = read(inventory(signer), signer.with_name("signers"))
    with pytest.raises(LockError, match="serial 7 is not newer than 9"):
        build(
            small.resolver(),
            small.locks,
            small.options(inventory=replace(listed, serial=9)),
            NOW,
        )
    path = small.spec_dir / "bundle.yml"
    data = yaml.safe_load(path.read_text())
    data["bundle"]["audience"]["site"] = "bank-2"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(SpecError, match="for site 'bank-2'"):
        build(small.resolver(), small.locks, small.options(inventory=listed), NOW)
    assert HEADER.serial == 7


def test_inventory_must_be_signed_by_the_site_it_speaks_for(signer: Path) -> None:
    signers = signer.with_name("signers")
    path = inventory(signer)
    path.write_text(path.read_text().replace('"serial": 5', '"serial": 6'))
    with pytest.raises(BuilderError, match="is not signed by site 'bank-1'"):
        read(path, signers)
    with pytest.raises(BuilderError, match="is not signed by site 'bank-2'"):
        read(inventory(signer, site="bank-2"), signers)
    with pytest.raises(BuilderError, match="is not signed"):
        read(inventory(signer, namespace="file"), signers)
    for changes in ({"site": "-oProxy"}, {"site": 3}):
        with pytest.raises(BuilderError, match="not a site's name"):
            read(inventory(signer, **changes), signers)
    for changes in ({"blobs": ["x"]}, {"serial": "5"}, {"bundle": {}}, {"schema": "x"}):
        with pytest.raises(BuilderError, match="inventory/v1"):
            read(inventory(signer, **changes), signers)


# Chat templates in Jinja's own parser


def template(site: Site, text: str) -> list[LockedFile]:
    blob = site.store.add_bytes(text.encode())
    return [LockedFile("t", "1", "chat_template.jinja", blob.size, blob.sha256)]


@pytest.mark.parametrize(
    "text",
    ["{% if x", "{% include 'x' %}", "{{ ''.__class__ }}", "{{ _x }}", "{% extends 'x' %}"],
)
def test_template_that_reaches_out_is_not_built(site: Site, text: str) -> None:
    with pytest.raises(PolicyError, match=r"model-x/chat_template\.jinja"):
        chat_templates.check("model-x", template(site, text), site.store)


def test_template_with_the_tags_of_chat_models_is_built(site: Site) -> None:
    text = (
        "{% for m in x %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    )
    chat_templates.check("model-x", template(site, text), site.store)
