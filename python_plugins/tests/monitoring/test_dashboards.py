"""The dashboards: their form, and that every query is one Prometheus can answer."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.monitoring.conftest import ROOT

ROLE = ROOT / "roles" / "grafana"
FILES = sorted((ROLE / "files" / "dashboards").glob("*.json"))
NAMES = Path(__file__).parent / "names"
DATASOURCE = {"type": "prometheus", "uid": "tresor-prometheus"}
PANEL_TYPES = {"row", "stat", "table", "timeseries"}
GRID_COLUMNS = 24
_IN_QUOTES = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w*\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "e6"}

every_dashboard = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def expressions(path: Path) -> list[str]:
    return [target["expr"] for panel in panels(path) for target in panel.get("targets", [])]


def metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    bare = re.sub(
        r"\boffset\s+\w+|\{[^}]*\}|\[[^\]]*\]",
        "",
        _GROUPING.sub("", _IN_QUOTES.sub("", expression)),
    )
    return {name for name in _NAME.findall(bare) if name not in _WORDS and not name.isdigit()}


def known(rules: Path) -> set[str]:
    """Return every name that something on a site serves or records."""
    names = {"ALERTS", "up"}
    names.update(re.findall(r"`(tresor_\w+)", (ROOT / "docs/metrics.md").read_text()))
    for file in NAMES.glob("*.txt"):
        names.update(
            line for line in file.read_text().splitlines() if line and not line.startswith("#")
        )
    for file in rules.glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            names.update(rule["record"] for rule in group["rules"] if "record" in rule)
    return names


def is_known(name: str, names: set[str]) -> bool:
    return name in names or any(
        name.endswith(suffix) and name.removesuffix(suffix) in names
        for suffix in ("_bucket", "_count", "_sum")
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('sum by (host) (rate(a_total{x="b_c"}[5m])) / on () c:d', {"a_total", "c:d"}),
        ("histogram_quantile(0.95, sum by (le) (rate(e_bucket[5m])))", {"e_bucket"}),
        ("time() - max(f) or vector(0)", {"f"}),
    ],
)
def test_names_are_found_in_expressions(expression: str, expected: set[str]) -> None:
    assert metrics(expression) == expected


def test_all_dashboards_are_installed() -> None:
    installed = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__grafana_dashboards"]
    assert sorted(installed) == [path.name for path in FILES]
    uids = [json.loads(path.read_text())["uid"] for path in FILES]
    assert len(uids) == len(set(uids)) == 4


@every_dashboard
def test_dashboard_has_the_form_that_grafana_reads(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["uid"] == f"tresor-{path.stem}"
    assert content["schemaVersion"] >= 36
    assert content["version"] >= 1
    assert content["editable"] is False
    assert "id" not in content, "Grafana gives it"
    assert "__inputs" not in content, "only for import by hand"
    ids = [panel["id"] for panel in content["panels"]]
    assert len(ids) == len(set(ids))
    for panel in content["panels"]:
        assert panel["type"] in PANEL_TYPES
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["datasource"] == DATASOURCE
            assert panel["targets"]
            for target in panel["targets"]:
                assert target["datasource"] == DATASOURCE
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs))


@every_dashboard
def test_panels_lie_in_the_grid_and_not_on_each_other(path: Path) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in panels(path)]
    for title, at in places:
        assert at["x"] >= 0
        assert at["y"] >= 0
        assert at["h"] > 0
        assert 0 < at["w"] <= GRID_COLUMNS - at["x"], title
    for (one, a), (two, b) in itertools.combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} lies on {two}"


@every_dashboard
def test_every_query_parses(path: Path, promtool: Path, tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": text} for n, text in enumerate(expressions(path))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_dashboard
def test_queries_use_only_metrics_that_exist(path: Path, rules: Path) -> None:
    names = known(rules)
    for text in expressions(path):
        found = metrics(text)
        assert found, text
        assert {name for name in found if not is_known(name, names)} == set(), text


def test_rules_use_only_metrics_that_exist(rules: Path) -> None:
    names = known(rules)
    for file in sorted(rules.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                missing = {n for n in metrics(str(rule["expr"])) if not is_known(n, names)}
                assert missing == set(), f"{rule.get('alert') or rule['record']}: {rule['expr']}"


def test_gpu_queries_answer_what_dcgm_serves(promtool: Path, rules: Path, tmp_path: Path) -> None:
    """Each GPU panel gives data for the names of a DCGM exporter: no lab has GPUs."""
    path = next(path for path in FILES if path.stem == "gpu")
    names = [n for n in (NAMES / "dcgm.txt").read_text().splitlines() if n.startswith("DCGM")]
    labels = '{host="gpu1",gpu="0",UUID="GPU-1",modelName="a"}'
    checks = [
        {
            "expr": f"count({text})",
            "eval_time": "10m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for text in expressions(path)
    ]
    content = {
        "rule_files": [str(file) for file in sorted(rules.glob("*.yml"))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": n + labels, "values": "1+1x20"} for n in names],
                "promql_expr_test": checks,
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
