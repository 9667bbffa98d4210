"""What a site loses with a GPU or a host, and whether it can."""

from __future__ import annotations

import pytest

from tresor.placement.headroom import check_headroom, losses
from tresor.placement.pack import place
from tresor.placement.predict import predictor
from tresor.placement.values import Placement

from .conftest import estimate, server, wanted

predict = predictor(estimate, "0.32.0")


def site(*hosts: str, replicas: int | None = None) -> Placement:
    entry = wanted(hosts=hosts, replicas=replicas)
    return place({name: server() for name in ("a", "b")}, [entry], predict)


@pytest.mark.parametrize(("level", "fits"), [("none", True), ("gpu", False), ("host", False)])
def test_single_instance_survives_nothing(level: str, fits: bool) -> None:
    assert (check_headroom(site("a"), level) == []) is fits


def test_two_hosts_survive_the_loss_of_one() -> None:
    assert check_headroom(site("a", "b"), "host") == []


def test_two_gpus_of_one_host_survive_a_gpu_and_not_the_host() -> None:
    entries = [wanted("one", model="chat"), wanted("two", model="chat")]
    placement = place({"a": server()}, entries, predict)

    assert check_headroom(placement, "gpu") == []
    (misfit,) = check_headroom(placement, "host")
    assert "without host a" in misfit.why
    assert "another host" in misfit.remedy


def test_load_that_needs_both_hosts_does_not_survive_one() -> None:
    (misfit,) = check_headroom(site("a", "b"), "host", {"chat": 2})

    assert "would have 1 of the 2 instances it needs" in misfit.why


def test_loss_names_what_goes_down() -> None:
    assert [(loss.what, loss.gone) for loss in losses(site("a", "b"), "gpu")] == [
        ("GPU 0 of a", ("chat-a",)),
        ("GPU 0 of b", ("chat-b",)),
    ]
