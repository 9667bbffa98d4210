"""A set is used only as it was built and tested; everything else is refused with every reason."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call
from tresor.gpu.qualified import BRANCHES, SetError, read_set
from tresor.inventory.schema_check import load_schema, violations

from .sets import DRIVER, KERNEL, contents, proven, with_version, without

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
TODAY = dt.date(2026, 11, 25)
HEADERS = f"linux-headers-{KERNEL}"


def refused(data: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(SetError) as caught:
        read_set(data, **{"system": "debian-12", "today": TODAY, **options})
    return caught.value.problems


def test_proven_set_is_accepted_and_names_its_packages_by_group() -> None:
    found = read_set(proven(contents()), system="debian-12", today=TODAY)

    assert found.group("fabric") == [{"name": "nvidia-fabricmanager-580", "version": f"{DRIVER}-1"}]
    assert [p["name"] for p in found.group("kernel")] == [f"linux-image-{KERNEL}", HEADERS]


def test_set_without_proofs_is_refused() -> None:
    assert refused(contents()) == [
        "it was not built together: there is no proof",
        "it was not tested together: there is no proof",
    ]


def test_set_that_was_changed_after_its_proofs_is_refused() -> None:
    data = proven(contents())
    data["packages"] = [*data["packages"], {"name": "a", "version": "1", "group": "cuda"}]

    assert refused(data) == [
        "it was changed after it was built: the proof is for other contents",
        "it was changed after it was tested: the proof is for other contents",
    ]


def test_proof_of_another_kernel_is_refused() -> None:
    problems = refused(proven(contents(), kernel="6.1.0-56-amd64"))

    assert problems[0] == (
        f"it was built with kernel 6.1.0-56-amd64 and driver {DRIVER}, not with {KERNEL} and "
        f"{DRIVER}"
    )


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (contents(fabric_manager="580.82.07"), "mixed versions: driver 580.95.05, Fabric Manager"),
        (
            with_version(contents(), "nvidia-fabricmanager-580", "580.82.07-1"),
            "mixed versions: nvidia-fabricmanager-580 is 580.82.07-1, the driver is 580.95.05",
        ),
        (without(contents(), HEADERS), f"missing headers of the kernel {KERNEL}"),
        (
            with_version(contents(), HEADERS, "6.1.192-1"),
            "headers 6.1.192-1 are not those of the kernel 6.1.176-1",
        ),
        (contents(branch="595"), "the driver 580.95.05 is not of the branch 595"),
        (contents(branch="535"), "the branch 535 is not supported: take one of 580, 595, 620"),
        (contents(kernel="6.1.0-56-amd64"), "no package of the kernel 6.1.0-56-amd64"),
        (with_version(contents(), "dkms", "3.*"), "dkms: '3.*' is no exact version"),
        (contents(system="debian-13"), "it is for debian-13, the host runs debian-12"),
        (
            contents(packages=[*contents()["packages"], contents()["packages"][0]]),
            f"the package linux-image-{KERNEL} stands there twice",
        ),
    ],
)
def test_set_that_contradicts_itself_is_refused(data: dict[str, Any], start: str) -> None:
    assert any(problem.startswith(start) for problem in refused(proven(data)))


def test_old_driver_for_cuda_13_is_refused() -> None:
    data = contents(driver="570.1.2", fabric_manager="570.1.2", branch="570")

    assert "CUDA 13.0 needs branch 580 or newer, the set has driver 570.1.2" in refused(
        proven(data)
    )


def test_branch_whose_support_has_ended_is_refused() -> None:
    day = BRANCHES["580"] + dt.timedelta(days=1)

    assert refused(proven(contents()), today=day) == [
        "NVIDIA's support of the branch 580 ended on 2028-06-30: take a newer one"
    ]


def test_versions_of_packagers_are_those_of_the_driver() -> None:
    for version in (f"{DRIVER}-1ubuntu1", f"1:{DRIVER}-0ubuntu0.22.04.1", f"{DRIVER}~deb12"):
        data = with_version(contents(), "nvidia-fabricmanager-580", version)
        read_set(proven(data), system="debian-12", today=TODAY)


def test_schema_takes_the_set_and_refuses_a_strange_key() -> None:
    schema = load_schema(SCHEMAS, "gpu-set")

    assert violations(proven(contents()), schema) == []
    assert violations({**contents(), "url": "x"}, schema)
    assert violations(contents(driver="latest"), schema)


def module(path: Path, text: str, system: str = "debian-12") -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    return call("tresor_gpu_set", path=str(path), schema_dir=str(SCHEMAS), system=system)


def test_module_hands_the_set_over(tmp_path: Path) -> None:
    done = module(tmp_path / "set.json", json.dumps(proven(contents())))

    assert (done["changed"], done["set"]["driver"]) == (False, DRIVER)
    assert done["set"]["packages"]["imex"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("{}", "'schema' is a required property"),
        (json.dumps(contents()), "it was not built together"),
    ],
)
def test_module_refuses_with_every_reason(tmp_path: Path, text: str, said: str) -> None:
    done = module(tmp_path / "set.json", text)

    assert done["failed"]
    assert "is refused; nothing was changed" in done["msg"]
    assert said in done["msg"]


def test_missing_set_is_named(tmp_path: Path) -> None:
    done = call(
        "tresor_gpu_set",
        path=str(tmp_path / "none.json"),
        schema_dir=str(SCHEMAS),
        system="debian-12",
    )

    assert "none.json is refused" in done["msg"]
