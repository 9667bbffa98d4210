"""Engines find their GPUs, and what finds none is told with figures and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.placement.pack import place
from tresor.placement.predict import predictor
from tresor.placement.values import Hardware, Placement, Wanted

from .conftest import estimate, server, wanted

predict = predictor(estimate, "0.32.0")


def packed(entries: list[Wanted], **hosts: Hardware) -> Placement:
    return place(hosts, entries, predict)


def gpus(placement: Placement) -> dict[str, tuple[int, ...]]:
    return {item.id: item.gpus for item in placement.placed}


def test_fewest_gpus_that_fit_are_taken_in_powers_of_two() -> None:
    placement = packed([wanted("large", architecture="large")], a=server())

    (item,) = placement.placed
    assert (item.tensor, len(item.gpus)) == (2, 2)
    assert placement.misfits == ()


def test_large_models_are_placed_before_small_ones() -> None:
    entries = [wanted(f"s{n}") for n in range(4)] + [
        wanted("large", tensor=4, architecture="large")
    ]

    placement = packed(entries, a=server())

    assert placement.misfits == ()
    assert sorted(gpu for item in placement.placed for gpu in item.gpus) == list(range(8))


def test_layers_stay_inside_an_nvlink_domain() -> None:
    host = server(gpus=4, nvlink_domain=2)

    placement = packed([wanted("s"), wanted("large", tensor=2, architecture="large")], a=host)

    assert gpus(placement)["large-a"] == (0, 1)
    assert not any(item.over_pcie for item in placement.placed)


def test_model_larger_than_a_domain_is_told_to_take_pcie() -> None:
    placement = packed([wanted("large", tensor=4, architecture="large")], a=server(nvlink_domain=2))

    (item,) = placement.placed
    assert (item.gpus, item.over_pcie) == ((0, 1, 2, 3), True)


def test_stages_may_lie_in_different_domains() -> None:
    entry = wanted("large", tensor=2, pipeline=2, architecture="large")

    (item,) = packed([entry], a=server(gpus=4, nvlink_domain=2)).placed

    assert (item.gpus, item.over_pcie) == ((0, 1, 2, 3), False)


def test_smallest_gap_is_filled_first() -> None:
    fixed = wanted("fixed", gpus=(0, 1, 2), tensor=1, pipeline=3, hosts=("b",))
    free = wanted("free", hosts=("a", "b"), replicas=1)

    placement = packed([fixed, free], a=server(), b=server(gpus=4, nvlink_domain=4))

    assert gpus(placement)["free-b"] == (3,)


def test_named_gpus_are_kept_clear_of_what_the_planner_places() -> None:
    placement = packed([wanted("free"), wanted("fixed", gpus=(0,), tensor=1)], a=server())

    assert gpus(placement) == {"fixed-a": (0,), "free-a": (1,)}


@pytest.mark.parametrize(("shares", "fits"), [((0.5, 0.4), True), ((0.5, 0.5), False)])
def test_engines_share_a_gpu_only_within_the_limit(shares: tuple[float, float], fits: bool) -> None:
    entries = [
        wanted(f"m{n}", gpus=(0,), tensor=1, args={"gpu_memory_utilization": share})
        for n, share in enumerate(shares)
    ]

    placement = packed(entries, a=server(gpus=1))

    assert (placement.misfits == ()) is fits
    assert fits or placement.misfits[0].kind == "shared_gpu"


def test_engine_without_a_stated_share_has_its_gpu_alone() -> None:
    entries = [
        wanted("one", args={"gpu_memory_utilization": 0.3}),
        wanted("whole"),
    ]

    placement = packed(entries, a=server(gpus=2, nvlink_domain=2))

    assert set(gpus(placement).values()) == {(0,), (1,)}


def test_small_engines_are_put_together() -> None:
    entries = [wanted(f"m{n}", args={"gpu_memory_utilization": 0.3}) for n in range(3)]

    placement = packed(entries, a=server())

    assert set(gpus(placement).values()) == {(0,)}


def test_second_engine_is_judged_with_the_memory_the_first_leaves() -> None:
    seen: list[Any] = []

    def watching(**keys: Any) -> dict[str, Any]:
        seen.append(keys.get("free_gib"))
        return estimate(**keys)

    entries = [wanted(f"m{n}", args={"gpu_memory_utilization": 0.4}) for n in range(2)]
    place({"a": server(gpus=1)}, entries, predictor(watching, "0.32.0"))

    assert 48.0 in [round(value, 6) for value in seen if value is not None]


def test_one_instance_on_each_host_unless_replicas_say_less() -> None:
    hosts = {"a": server(), "b": server(), "c": server()}

    everywhere = packed([wanted(hosts=("a", "b", "c"))], **hosts)
    twice = packed([wanted(hosts=("a", "b", "c"), replicas=2)], **hosts)

    assert [item.host for item in everywhere.placed] == ["a", "b", "c"]
    assert len(twice.placed) == 2


@pytest.mark.parametrize(
    ("entry", "host", "kind", "why"),
    [
        (wanted(architecture="huge"), server(), "negative_kv", "even on 8 GPUs per layer"),
        (wanted(architecture="huge", gpus=(0,), tensor=1), server(), "negative_kv", "on GPUs 0"),
        (wanted(gpus=(9,), tensor=1), server(), "structural", "wants GPU 9, the host has 8"),
        (wanted(tensor=16), server(), "no_room", "needs 16 free GPUs, the host has 8 of 8"),
        (wanted(), Hardware(), "structural", "the host's GPUs are not stated"),
        (wanted(architecture="secret"), server(), "structural", "secret is not known"),
        (wanted(replicas=2), server(), "no_room", "wants 2 replicas on 1 hosts"),
    ],
)
def test_what_does_not_fit_says_model_host_and_why(
    entry: Wanted, host: Hardware, kind: str, why: str
) -> None:
    misfit = packed([entry], a=host).misfits[0]

    assert misfit.model == "chat"
    assert misfit.host in ("a", None)
    assert misfit.kind == kind
    assert why in misfit.why
    assert misfit.remedy


def test_figures_stand_in_the_reason() -> None:
    (misfit,) = packed([wanted(architecture="large", gpus=(0,), tensor=1)], a=server()).misfits

    assert "weights 120.0" in misfit.why
    assert "budget 73.6 of 80.0 GiB" in misfit.why
    assert misfit.remedy == "take more GPUs"


def test_order_of_the_catalogue_does_not_change_the_result() -> None:
    entries = [wanted(f"m{n}", architecture=a) for n, a in enumerate(["small", "large", "middle"])]

    forward, backward = packed(entries, a=server()), packed(entries[::-1], a=server())

    assert sorted(len(item.gpus) for item in forward.placed) == sorted(
        len(item.gpus) for item in backward.placed
    )
