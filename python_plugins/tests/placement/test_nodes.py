"""One instance over several hosts takes GPUs of each, fits as a whole and is lost with any."""

from __future__ import annotations

from dataclasses import replace

from tresor.placement.cpu import SPACE
from tresor.placement.headroom import check_headroom, losses
from tresor.placement.pack import place
from tresor.placement.predict import engine_keys, predictor
from tresor.placement.recommend import recommend, server_of
from tresor.placement.resources import host_needs
from tresor.sizing import estimate as real_estimate

from .conftest import estimate, server, wanted

PREDICT = predictor(estimate, "0.32.0")
HUGE = wanted(
    "huge", architecture="huge", hosts=("a", "b"), nodes=2, tensor=8, pipeline=2
)  # 1200 GiB: more than the 640 of one host


def test_model_that_exceeds_a_host_fits_on_two() -> None:
    hosts = {"a": server(gpu_total_gib=80.0), "b": server(gpu_total_gib=80.0)}
    alone = replace(HUGE, nodes=1, hosts=("a",), pipeline=1)

    assert place(hosts, [alone], PREDICT).misfits
    with_room = replace(HUGE, architecture="large")
    (found,) = place(hosts, [with_room], PREDICT).placed

    assert (found.host, found.followers, found.gpus) == ("a", ("b",), tuple(range(8)))
    assert found.prediction.weights_gib == 120 / 16
    assert not found.over_pcie


def test_gpus_are_taken_on_every_host() -> None:
    hosts = {"a": server(), "b": server()}
    spanning = replace(HUGE, architecture="large", tensor=4)
    other = wanted("chat", hosts=("b",), tensor=4, gpus=(0, 1, 2, 3))

    found = place(hosts, [spanning, other], PREDICT)

    assert not found.misfits
    by_id = {item.id: item for item in found.placed}
    assert by_id["huge-a"].gpus == (4, 5, 6, 7)
    assert {item.id for item in found.on("b")} == {"huge-a", "chat-b"}
    more = wanted("more", hosts=("b",), tensor=2)
    (misfit,) = place(hosts, [spanning, other, more], PREDICT).misfits
    assert misfit.kind == "no_room" and misfit.host == "b"


def test_no_common_gpus_are_told_with_all_hosts() -> None:
    hosts = {"a": server(), "b": server()}
    spanning = replace(HUGE, architecture="large", tensor=8)
    other = wanted("chat", hosts=("b",), tensor=1, gpus=(3,))

    (misfit,) = place(hosts, [other, spanning], PREDICT).misfits

    assert "8 GPUs that are free on each of its 2 hosts a, b" in misfit.why


def test_named_gpus_that_one_host_lacks_are_refused() -> None:
    hosts = {"a": server(), "b": server(gpus=4)}
    spanning = replace(HUGE, architecture="large", gpus=tuple(range(8)))

    found = place(hosts, [spanning], PREDICT)

    assert not found.placed
    assert [(m.host, m.kind) for m in found.misfits] == [("b", "structural")]


def test_loss_of_either_host_loses_the_instance() -> None:
    hosts = {"a": server(), "b": server(), "c": server()}
    spanning = replace(HUGE, architecture="large")
    placement = place(hosts, [spanning], PREDICT)

    assert {loss.host: loss.gone for loss in losses(placement, "host")} == {
        "a": ("huge-a",),
        "b": ("huge-a",),
    }
    assert {loss.host for loss in losses(placement, "gpu")} == {"a", "b"}
    (misfit,) = check_headroom(placement, "host")
    assert misfit.kind == "headroom" and misfit.model == "huge"


def test_two_instances_on_four_hosts_survive_a_host() -> None:
    hosts = {name: server() for name in "abcd"}
    one = replace(HUGE, architecture="large")
    two = replace(one, name="huge2", hosts=("c", "d"))

    placement = place(hosts, [one, two], PREDICT)

    assert not placement.misfits and check_headroom(placement, "host") == []


def test_sizing_is_asked_about_all_hosts() -> None:
    keys = engine_keys(HUGE, server(), 8, "0.32.0")

    assert (keys["nodes"], keys["gpus_per_node"]) == (2, 8)
    assert (keys["tensor_parallel_size"], keys["pipeline_parallel_size"]) == (8, 2)
    assert "nodes" not in engine_keys(wanted(), server(), 1, "0.32.0")


def test_sizing_counts_the_gpus_of_all_hosts() -> None:
    keys = engine_keys(
        replace(HUGE, architecture="meta-llama/Llama-3.1-405B"), server(), 8, "0.32.0"
    )

    assert real_estimate(**keys)["outcome"] == "fit"
    assert real_estimate(**{**keys, "nodes": 1})["fail_kind"] is not None


def test_each_host_needs_memory_and_disk_for_its_part() -> None:
    hosts = {"a": server(), "b": server()}
    placement = place(hosts, [replace(HUGE, architecture="large")], PREDICT)

    first, second = (host_needs(placement, name, 3) for name in ("a", "b"))

    assert first.memory_gib == second.memory_gib > 60
    assert first.models_gib == second.models_gib > 0


def test_cpu_engine_has_one_rank_on_each_host() -> None:
    hosts = {"a": server(gpu=None, gpus=0, memory_gib=12), "b": server(gpu=None, gpus=0)}
    entry = wanted(device="cpu", hosts=("b", "a"), nodes=2, tensor=1, pipeline=2, env={SPACE: "1"})

    (found,) = place(hosts, [entry], PREDICT).placed

    assert (found.id, found.followers) == ("chat-b", ("a",))
    assert found.prediction.weights_gib == 4.0
    full = {"a": server(gpu=None, gpus=0, memory_gib=4), "b": server(gpu=None, gpus=0)}
    assert [m.kind for m in place(full, [entry], PREDICT).misfits] == ["host_memory"]


def test_recommendation_counts_hosts_for_every_copy() -> None:
    kind = server_of("H100 SXM 80GB", 8)
    entry = replace(HUGE, architecture="large", tensor=8)

    one = recommend([entry], {"huge": 1}, kind, PREDICT, "none")
    spared = recommend([entry], {"huge": 1}, kind, PREDICT, "host")

    assert (one.hosts, spared.hosts) == (2, 4)
    assert not one.placement.misfits and not spared.placement.misfits
