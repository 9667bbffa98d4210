"""All gates together: a good bundle passes, a gate that fails or keeps silent refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from bundle.tests import makers
from python_plugins.tests.policy.bench import REASON, Bench, environment, good_scan, sha
from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.bundle.manifest import BundleManifest
from tresor.policy import evaluate, hook
from tresor.policy.verdict import PASS, REFUSE, blocking, clean, verdict

MODULE_UTILS = Path(__file__).resolve().parents[2] / "module_utils"


def test_good_bundle_passes_every_gate(bench: Bench) -> None:
    verdicts = bench.verdicts()
    assert evaluate.refusals(verdicts) == []
    assert {item.gate for item in verdicts if item.severity == PASS} == set(evaluate.GATES)


def test_bundle_without_any_evidence_is_refused(bench: Bench) -> None:
    bench.evidence = False
    bench.scan = None
    assert bench.refused() == [
        "sbom.missing",
        "licences.unknown",
        "vulnerabilities.missing",
        "malware.missing",
    ]


def test_a_gate_that_says_nothing_refuses() -> None:
    (found,) = blocking([], ["wheels"])
    assert (found.rule, found.severity) == ("wheels.silent", REFUSE)


def test_an_unknown_severity_refuses() -> None:
    assert blocking([verdict("sbom.odd", "fine", "x", "y")], []) != []


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("x"), RecursionError(), TypeError()])
def test_an_error_inside_a_gate_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> object:
        raise error

    monkeypatch.setitem(evaluate.BUNDLE_GATES, "sbom", broken)
    assert bench.refused() == ["sbom.error"]


def test_content_that_is_not_there_refuses(bench: Bench) -> None:
    view = bench.view()
    for path in bench.folder.iterdir():
        path.unlink()
    rules = {item.rule for item in evaluate.refusals(evaluate.evaluate(view))}
    assert "content.open" in rules


def test_what_a_file_says_cannot_forge_a_line_of_a_log() -> None:
    text = clean("a\nREFUSE nothing\x1b[2J\u202e\u0000" + "b" * 1000)
    assert text.isprintable()
    assert len(text) < 400


def test_gates_import_only_the_standard_library() -> None:
    """The importer runs on a bare bastion; site-packages are out of reach there."""
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
        f"sys.path.insert(0, {str(MODULE_UTILS)!r}); import tresor.policy.evaluate"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=30)


@dataclass(frozen=True)
class Store:
    current: Path


@dataclass(frozen=True)
class Given:
    """What the importer hands over."""

    manifest: BundleManifest
    locate: Callable[[str], Path]
    site: str
    now: datetime
    store: Store


@pytest.fixture
def given(bench: Bench, tmp_path: Path) -> Given:
    view = bench.view()
    return Given(view.manifest, view.locate, view.site, view.now, Store(tmp_path / "current"))


def test_importer_calls_each_gate_by_its_name(given: Given, tmp_path: Path) -> None:
    absent = tmp_path / "no-rules.json"
    for name in hook.GATES:
        last = hook.run(name, given, absent)[-1]
        # Nobody scanned here; every other gate is content.
        assert (last.gate, last.severity) == (name, REFUSE if name == "malware" else PASS)


def test_bastion_scans_where_its_rules_name_signatures(
    given: Given, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('{"malware_signatures": "/srv/signatures"}')
    asked: list[str] = []

    def scan(contents: dict[str, Path], _: Path) -> bytes:
        asked.extend(contents)
        return good_scan(bench.parts)

    monkeypatch.setattr("tresor.policy.clamscan.scan", scan)
    assert hook.run("malware", given, rules)[-1].severity == PASS
    assert sha(bench.parts["model-tiny"][1]["model.safetensors"]) not in asked
    assert sha(bench.parts["model-tiny"][1]["config.json"]) in asked


def test_damaged_rules_of_the_site_stop_the_import(given: Given, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text("{")
    with pytest.raises(EnvironmentNotReadyError, match="Correct the site's rules"):
        hook.run("sbom", given, rules)


def test_declarations_are_read_from_the_bundle_itself(bench: Bench) -> None:
    files = environment(makers.wheel("demo-app", "1.0", {"x.pth": b""}))
    bench.parts["wheels-app"] = ("wheels", files)
    view = replace(bench.view(), read_declared=True)
    assert [item.rule for item in evaluate.refusals(evaluate.evaluate(view))] == ["wheels.start-up"]
    row = {"rule": "wheels.start-up", "package": "demo-app", "values": ["x.pth"], "reason": REASON}
    policy = json.dumps({"schema": "policy/v1", "allow": [row]}).encode()
    bench.parts["z-policy"] = ("report", {"policy.json": policy})
    view = replace(bench.view(), read_declared=True)
    assert evaluate.refusals(evaluate.evaluate(view)) == []
    bench.parts["z-policy"] = ("report", {"policy.json": b"{}"})
    view = replace(bench.view(), read_declared=True)
    assert "declared.form" in [item.rule for item in evaluate.refusals(evaluate.evaluate(view))]
