"""Proofs of a GPU set: written for exactly its contents, and void after a change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundle.builder import gpu_build
from bundle.builder.errors import PolicyError
from bundle.builder.gpu_set import main
from python_plugins.tests.gpu.sets import contents, with_version


def write(path: Path, data: dict[str, Any]) -> str:
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def test_set_becomes_qualified_with_both_proofs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "set.json", contents())

    assert main([path]) == 1
    assert main([path, "--built", "build1, DKMS"]) == 1
    assert main([path, "--tested", "gpu9, diag level 3, all-reduce"]) == 0
    assert capsys.readouterr().out.endswith("qualified\n")
    proofs = json.loads(Path(path).read_text(encoding="utf-8"))["proofs"]
    assert proofs["built"]["where"] == "build1, DKMS"


def test_proof_of_older_contents_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "set.json", contents())
    main([path, "--built", "build1", "--tested", "gpu9"])
    changed = with_version(json.loads(Path(path).read_text("utf-8")), "dkms", "3.2.0-1")
    write(tmp_path / "set.json", changed)

    assert main([path, "--built", "build1"]) == 1
    assert list(json.loads(Path(path).read_text(encoding="utf-8"))["proofs"]) == ["built"]


def test_set_that_contradicts_itself_gets_no_proof(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "set.json", contents(fabric_manager="580.82.07"))
    before = Path(path).read_bytes()

    assert main([path, "--tested", "gpu9"]) == 2
    assert "mixed versions" in capsys.readouterr().err
    assert Path(path).read_bytes() == before


def test_file_that_is_no_set_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([write(tmp_path / "x.json", {"schema": "gpu-set/v1"})]) == 2
    assert "does not fit gpu-set.schema.json" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 2


def test_only_kernel_and_driver_are_built() -> None:
    want = gpu_build.wanted(contents())
    assert want.packages
    groups = {item["name"]: item["group"] for item in contents()["packages"]}
    assert {groups[name] for name in want.packages} == {"kernel", "driver"}


def test_system_without_these_packages_cannot_be_built_here() -> None:
    with pytest.raises(PolicyError, match="cannot be built here"):
        gpu_build.wanted(contents(system="redhat-9"))


def test_refusal_shows_what_the_compiler_said(tmp_path: Path) -> None:
    log = tmp_path / "var/lib/dkms/nvidia/1/build/make.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "gcc -Werror=undef -c nv.c\nnv-pci.c:223: error: too few arguments to function\nmake: ok\n",
        encoding="utf-8",
    )
    want = gpu_build.Wanted("debian-12", "6.1.0-56-amd64", "535.261.03", {})
    text = gpu_build.refusal(tmp_path, want, "", "apt failed")
    assert "does not build for kernel 6.1.0-56-amd64: it has no module" in text
    assert text.splitlines()[1:] == ["  nv-pci.c:223: error: too few arguments to function"]
    text = gpu_build.refusal(tmp_path / "none", want, "", "apt failed")
    assert "do not go together" in text
    assert "apt failed" in text
