"""The report of a site: needs, alternatives, bill of materials, and its three forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pytest

from tresor.inventory.schema_check import load_schema, violations
from tresor.placement.load import ServiceModel
from tresor.placement.markdown import markdown, options_of
from tresor.placement.memory_bar import COLOURS, WIDTH, memory_bar
from tresor.placement.page import page
from tresor.placement.prices import Prices, prices_of
from tresor.placement.report import Bundle, Subject, capacity_report
from tresor.placement.site import Capacity, capacity_of
from tresor.sizing.slo import Load, Promise
from tresor.sizing.slo.predict import Seen

from .conftest import estimate, seen

SCHEMAS = Path(__file__).parents[2] / "module_utils/tresor/schema"
HARDWARE = {
    "gpu": "H100 SXM 80GB",
    "gpus": 8,
    "memory_gib": 2048,
    "disk_gib": 4000,
    "rack_units": 8,
    "network_gbit": 100,
    "base_power_w": 2500,
}
SLO = {"ttft_p95_ms": 500, "e2e_p95_ms": 3000, "survive_loss_of": "host"}
EVIL = "<script>alert(1)</script>|`x`"


def model(name: str, architecture: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "artefact": name,
        "architecture": architecture,
        "task": "chat",
        "context_tokens": 4096,
        "quantization": "none",
        "parallelism": {"tensor": "auto", "pipeline": 1},
        "engine": {"device": "cuda", "args": {}, "env": {}},
        "placement": [
            {"instance": name, "groups": ["gpu"], "hosts": [], "port": 8100, "gpus": "auto"}
        ],
        **changes,
    }


def site(
    models: list[dict[str, Any]] | None = None,
    planning: dict[str, Any] | None = None,
    hardware: dict[str, Any] | None = None,
    slo: dict[str, Any] | None = None,
) -> tuple[Subject, Capacity]:
    models = models or [model("large", "large"), model("small", "small")]
    planning, slo = planning or {}, slo or SLO
    hosts = {
        "bastion1": {},
        "gpu1": {"tresor_hardware": hardware or HARDWARE},
        "gpu2": {"tresor_hardware": hardware or HARDWARE},
    }
    groups = {"bastion": ("bastion1",), "gpu": ("gpu1", "gpu2")}
    concerns = {"models": models, "slo": slo}
    capacity = capacity_of(concerns, planning, hosts, groups, estimate)
    return Subject("demo", "0" * 64, hosts, groups, planning, slo), capacity


def linear(keys: Mapping[str, Any], load: Load) -> Seen:
    """Answer faster on more GPUs for each layer, and five times as fast with the small model."""
    share = load.users / keys["tensor_parallel_size"] / keys.get("replicas", 1)
    share /= 5 if keys["model"] == "small" else 1
    return seen(17.2 * share, 87 * share)


def assess(
    slo: Mapping[str, Any], load: Mapping[str, Any], keys: Mapping[str, Any]
) -> dict[str, Any]:
    found = linear(keys, Load.read(load))
    kept = found.excess(Promise.read(slo)) <= 1
    return {
        "outcome": "reachable" if kept else "not_reachable",
        "verdict": f"{found.ttft_p95:.0f} ms",
        "because": ["as it is"],
        "alternatives": [{"change": "B200", "reachable": True, "gpus": 4, "gpu_power_w": 4000}],
    }


SERVICE = ServiceModel(linear, assess)


def load_of(model: str, users: int) -> dict[str, Any]:
    return {"model": model, "users": users, "input_tokens": 9, "output_tokens": 9}


def report(prices: Prices | None = None, **given: Any) -> dict[str, Any]:
    subject, capacity = site(**given)
    assert capacity.placement.misfits == ()
    return capacity_report(subject, capacity, Bundle({}, {}), SERVICE, prices)


def test_report_fits_its_schema_and_is_the_same_every_time() -> None:
    planning = {
        "load": [load_of("large", 50)],
        "alternatives": {
            "gpus": ["H200 SXM 141GB"],
            "models": [{"instead_of": "large", "architecture": "middle", "quantization": "fp8"}],
            "routing": [{"from": "large", "to": "small", "share_percent": 60}],
        },
    }
    found = report(planning=planning)

    assert violations(found, load_schema(SCHEMAS, "capacity")) == []
    assert found == report(planning=planning)
    assert [row["name"].split()[0] for row in found["alternatives"]] == [
        "present",
        "card",
        "model",
        "routing",
    ]


def test_host_needs_say_where_they_come_from() -> None:
    needs = {one["host"]: one for one in report()["hosts"]}["gpu1"]

    # large on 2 GPUs (120 GiB) and small on one (8 GiB); 8 GiB for each GPU, 16 for the system.
    assert needs["memory_gib"] == 120 + 8 + 3 * 8 + 16
    assert needs["models_gib"] == 128
    assert needs["disk_gib"] == 3 * 128
    assert needs["power_w"] == 8 * 700 + 2500
    assert needs["transfer_minutes"] == pytest.approx(128 * 8.589934592 / 80 / 60, abs=0.01)


def test_disk_without_room_for_the_model_before_does_not_fit() -> None:
    _, capacity = site(hardware={**HARDWARE, "disk_gib": 200})

    assert {misfit.kind for misfit in capacity.placement.misfits} == {"disk"}
    assert "they need 256.0, its disk has 200" in capacity.placement.misfits[0].why


def test_disk_for_fewer_revisions_and_little_memory_are_noted() -> None:
    notes = report(hardware={**HARDWARE, "disk_gib": 300, "memory_gib": 64})["notes"]

    assert "gpu1: 384.0 GiB of disk hold 3 revisions of each model, it has 300" in notes
    assert "gpu1: 168.0 GiB of memory are advised, it has 64" in notes


def test_present_row_takes_no_more_servers_than_the_loss_of_one_asks_for() -> None:
    (row,) = report()["alternatives"]

    assert (row["fits"], row["servers"], row["gpus"], row["gpus_used"]) == (True, 2, 16, 6)
    assert row["gpu_power_w"] == 16 * 700
    assert row["gpu_hours_per_month"] == 16 * 730
    assert row["rack_units"] == 16


def test_larger_card_needs_fewer_gpus_for_the_same_model() -> None:
    planning = {"alternatives": {"gpus": ["L40S 48GB"]}}

    def by_card(**keys: Any) -> dict[str, Any]:
        return estimate(**{"gpu_total_gib": 45.0 if "L40S" in keys["gpu"] else 80.0, **keys})

    subject, _ = site(planning=planning)
    concerns = {"models": [model("large", "large"), model("small", "small")], "slo": SLO}
    capacity = capacity_of(concerns, planning, subject.hosts, subject.groups, by_card)
    present, other = capacity_report(subject, capacity, Bundle({}, {}), SERVICE, None)[
        "alternatives"
    ]

    assert (present["gpus_used"], other["gpus_used"]) == (6, 10)
    assert other["gpu"] == "L40S 48GB"


def test_load_decides_how_many_instances_are_compared() -> None:
    load = [load_of("large", 200)]
    (row,) = report(planning={"load": load})["alternatives"]

    # One engine on two GPUs carries 50 users: 4 instances, and as many again for a lost host.
    assert row["users"] == {"large": 50}
    assert row["gpus_used"] == 8 * 2 + 2
    assert row["servers"] == 3


@pytest.mark.parametrize(("level", "gpus"), [("none", 3), ("gpu", 6), ("host", 6)])
def test_spare_instances_are_those_that_the_loss_asks_for(level: str, gpus: int) -> None:
    load = [load_of("large", 50), load_of("small", 1)]
    subject, capacity = site(planning={"load": load}, slo={**SLO, "survive_loss_of": level})
    (row,) = capacity_report(subject, capacity, Bundle({}, {}), SERVICE, None)["alternatives"]

    assert (row["fits"], row["gpus_used"]) == (True, gpus)


def test_layout_that_is_fast_enough_is_found_where_the_smallest_is_not() -> None:
    slo = {**SLO, "ttft_p95_ms": 6, "survive_loss_of": "none"}
    (row,) = report(planning={"load": [load_of("large", 1)]}, slo=slo)["alternatives"]

    # 17.2 ms on one GPU, 8.6 on two, 4.3 on four; the limit is 6 with 15 % to spare.
    assert (row["fits"], row["users"]) == (True, {"large": 1})
    assert row["gpus_used"] == 4 + 2


def test_service_level_that_no_layout_reaches_is_told_with_the_largest() -> None:
    slo = {**SLO, "ttft_p95_ms": 1, "survive_loss_of": "none"}
    (row,) = report(planning={"load": [load_of("large", 1)]}, slo=slo)["alternatives"]

    assert not row["fits"]
    assert "not reachable: even on 8 GPUs per layer one user alone would see 2 ms" in row["why"]


def test_routing_moves_users_to_the_smaller_model() -> None:
    planning = {
        "load": [load_of("large", 200), load_of("small", 20)],
        "alternatives": {"routing": [{"from": "large", "to": "small", "share_percent": 50}]},
    }
    present, routed = report(planning=planning)["alternatives"]

    assert routed["fits"]
    assert routed["gpus_used"] < present["gpus_used"]


def test_routing_without_a_load_says_what_is_missing() -> None:
    planning = {
        "alternatives": {"routing": [{"from": "large", "to": "small", "share_percent": 50}]}
    }

    row = report(planning=planning)["alternatives"][1]

    assert not row["fits"]
    assert "planning.load says nothing of large" in row["why"]


def test_service_level_that_the_site_misses_is_told() -> None:
    load = [load_of("large", 200)]
    (line,) = report(planning={"load": load})["service"]

    assert (line["users_per_instance"], line["outcome"]) == (50, "not_reachable")
    assert (line["instances"], line["because"]) == (2, ["as it is"])
    assert line["next_best"][0]["change"] == "B200"


def test_no_price_is_shown_without_a_list() -> None:
    assert report()["alternatives"][0]["cost"] is None


def test_prices_come_from_the_list_and_gaps_stay_gaps() -> None:
    prices = prices_of(
        {
            "currency": "EUR",
            "source": "offer 1",
            "servers": [{"gpu": "H100 SXM 80GB", "gpus": 8, "price": 100000}],
            "kwh": 0.2,
            "years": 1,
        }
    )
    found = report(prices=prices, planning={"alternatives": {"gpus": ["H200 SXM 141GB"]}})
    present, other = (row["cost"] for row in found["alternatives"])

    assert present["servers"] == 200000
    assert present["gpu_energy_at_limit"] == pytest.approx(11.2 * 8760 * 0.2)
    assert (present["rack_space"], present["complete"]) == (None, False)
    assert other["servers"] is None
    assert found["prices"] == {"source": "offer 1"}


def test_bill_of_materials_counts_hosts_and_names_what_is_open() -> None:
    subject, capacity = site()
    locks = {
        "wheels-vllm": {
            "type": "wheels",
            "files": [
                {"name": "torch", "version": "2.13.0", "size": 10},
                {"name": "vllm", "version": "0.32.0", "size": 5},
                {"name": "zipp", "version": "3", "size": 1},
            ],
        },
        "model-large": {"type": "model", "files": [{"name": "large", "version": "1", "size": 7}]},
        "bundle": {"id": "2026.1"},
    }
    specs = {"model-large": {"license": "Apache-2.0"}}
    bom = capacity_report(subject, capacity, Bundle(locks, specs), SERVICE, None)["bom"]

    assert [(line["count"], line["roles"], line["gpus"]) for line in bom["hardware"]] == [
        (1, ["bastion"], None),
        (2, ["gpu"], 8),
    ]
    assert [
        (line["part"], line["main"], line["bytes"], line["licence"]) for line in bom["software"]
    ] == [
        ("model-large", ["large 1"], 7, "Apache-2.0"),
        ("wheels-vllm", ["torch 2.13.0", "vllm 0.32.0"], 16, None),
    ]
    (point,) = bom["open"]
    assert point.startswith("bastion1: memory_gib, disk_gib, rack_units, network_gbit not stated")


class Reader(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_page_fetches_nothing_runs_nothing_and_escapes_every_value() -> None:
    subject, capacity = site(models=[model("large", "large"), model("small", "small")])
    found = capacity_report(subject, capacity, Bundle({}, {}), SERVICE, None)
    found["site"] = found["notes"] = EVIL
    found["notes"] = [EVIL]
    found["instances"][0]["id"] = EVIL
    found["gpus"][0]["parts"][0]["instance"] = EVIL
    found["gpus"][0]["host"] = EVIL
    text = page(found)
    reader = Reader()
    reader.feed(text)

    assert "<script" not in text
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name in ("src", "href", "style", "onload")]
    assert "default-src 'none'" in text.replace("&#x27;", "'")


def test_style_of_the_page_is_the_one_its_policy_allows() -> None:
    import base64
    import hashlib

    text = page(report()).replace("&#x27;", "'")
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    allowed = re.search(r"style-src 'sha256-([^']+)'", text)

    assert style and allowed
    assert base64.b64decode(allowed[1]) == hashlib.sha256(style[1].encode()).digest()


def test_page_states_who_takes_how_much_of_each_gpu() -> None:
    found = report()
    bar = found["gpus"][0]
    taken = sum(part["gib"] for part in bar["parts"])
    (row,) = re.findall(
        rf"<tr><td>{bar['host']}</td><td[^>]*>{bar['gpu']}</td>.*?</tr>", page(found)
    )
    assert bar["parts"][0]["instance"] in row
    assert f"{taken:.1f} / {bar['total_gib']:.1f}" in row
    assert "KV cache" in row and "free" in row


def test_page_is_usable_on_a_narrow_screen_and_on_paper() -> None:
    text = page(report())
    reader = Reader()
    reader.feed(text)
    assert ("name", "viewport") in reader.attributes
    # Every table scrolls in a frame of its own, and repeats its head on the next sheet.
    frames = reader.attributes.count(("class", "wide"))
    assert frames == reader.tags.count("table") == reader.tags.count("thead") > 5
    assert "@media print" in text and "thead{display:table-header-group}" in text


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", COLOURS.values())
def test_white_labels_can_be_read_on_every_colour(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_options_stand_as_the_engine_takes_them() -> None:
    args = {
        "enable_prefix_caching": True,
        "enable_chunked_prefill": False,
        "max_model_len": 4096,
        "compilation_config": {"mode": 3},
        "served_model_name": "my model",
    }
    assert " ".join(options_of(args)) == (
        "--enable-prefix-caching --no-enable-chunked-prefill --max-model-len 4096 "
        """--compilation-config '{"mode": 3}' --served-model-name 'my model'"""
    )


def test_bar_shows_every_piece_and_never_leaves_its_frame() -> None:
    bar = report()["gpus"][0]
    seen: list[float] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "rect":
            seen.append(float(attributes["x"]) + float(attributes["width"]))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.Parse(memory_bar(bar), True)

    assert len(seen) == len(bar["parts"]) + 1
    assert max(seen) == pytest.approx(WIDTH, abs=0.2)


def test_markdown_holds_the_figures_and_no_live_markup() -> None:
    found = report()
    found["notes"] = [EVIL]
    text = markdown(found)

    assert "| large-gpu1 | large | 0, 1 | 2 | 1 | 4,096 |" in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`x\\`" in text
