"""All gates together: a good bundle passes, a gate that fails or keeps silent refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from python_plugins.tests.policy.bench import Bench
from tresor.policy import evaluate
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
