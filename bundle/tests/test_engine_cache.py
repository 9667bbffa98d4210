"""A warmed cache of a build host becomes a locked part; what is no cache's file does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bundle.builder import engine_cache
from bundle.builder.cli import main
from bundle.builder.content import Maker
from bundle.builder.errors import LockError, SpecError
from bundle.tests.helpers import HEADER, Site, make_wheel
from tresor.engine_cache import archive, record
from tresor.policy import evaluate

INSTANCE = {"task": "chat", "args": {"max_model_len": 8192}, "env": {"CUDA_VISIBLE_DEVICES": "0"}}
AOT = "torch_compile_cache/torch_aot_compile/ab12/rank_0_0"
WARM = {
    f"{AOT}/model": b"aot",
    f"{AOT}/inductor_cache/ab/cab.py": b"import triton\n",
    f"{AOT}/triton_cache/" + "K" * 52 + "/" + "triton_poi_fused_add_" * 6 + "0.cubin": b"\x7fELF",
    "deep_gemm/cache/kernel.x/kernel.cubin": b"\x7fELF",
    "workspace/.cache/flashinfer/0.7.2/90a/cute/k.o": b"\x7fELF",
    "startup_plan/startup_plan_1.json": b"{}",
    "torch_compile_cache/.lock": b"",
    f"{AOT}/inductor_cache/ab/__pycache__/cab.cpython-311.pyc": b"pyc",
}
KEPT = sorted(list(WARM)[:5])


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    folder = tmp_path / "warm"
    for path, raw in WARM.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    (tmp_path / "engine.json").write_text(json.dumps(INSTANCE))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Make a repository with an environment, a model and a part for a cache."""
    made = Site(tmp_path)
    environment = {"type": "wheels", "python": "3.11", "glibc": "2.36", "version_of": "vllm"}
    parts = [
        {"name": "wheels-vllm-cuda", "requirements": ["vllm==0.33.0"], **environment},
        {"name": "engine-cache-big", "type": "engine_cache"},
    ]
    made.write_spec("parts.yml", {"parts": parts})
    wheel = make_wheel(made.wheels, "vllm", "0.33.0", {"vllm/a.py": b""})
    made.lock("wheels-vllm-cuda", [wheel])
    lock = made.locks.read("wheels-vllm-cuda")
    assert lock is not None
    text = lock.dump().replace('"wheels-vllm-cuda"', '"model-big"').replace('"wheels"', '"model"')
    made.locks.write("model-big", text)
    return made


def command(site: Site, warm: Path, **changes: str) -> list[str]:
    values = {
        "--part": "engine-cache-big",
        "--from": str(warm),
        "--environment": "vllm-cuda",
        "--model": "big",
        "--gpu": "H100 SXM 80GB",
        "--capability": "9.0",
        "--driver": "580.95.05",
        "--engine": str(warm.parent / "engine.json"),
        "--spec": str(site.spec_dir),
        "--lock-dir": str(site.locks.path("x").parent),
        "--cache": str(site.context.cache),
    }
    values |= {f"--{key}": value for key, value in changes.items()}
    return ["engine-cache", *(word for pair in values.items() for word in pair)]


def test_cache_is_locked_with_what_it_fits(
    site: Site, warm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(site, warm)) == 0, capsys.readouterr().err
    lock = site.locks.read("engine-cache-big")
    assert lock is not None
    raw = site.store.path(lock.file("cache.json").sha256).read_bytes()
    found = record.parse(raw)
    assert [entry.path for entry in found.files] == KEPT
    assert (found.fits.gpu, found.fits.driver) == ("H100 SXM 80GB", "580.95.05")
    assert found.fits.engine_sha256 == record.engine_digest(INSTANCE)
    with site.store.path(lock.file("cache.tar").sha256).open("rb") as stream:
        archive.check(found, stream)
    # The people's allowance names this digest.
    assert lock.file("cache.json").sha256 in "".join(capsys.readouterr())
    header = site.locks.header()
    assert header is not None
    assert header.serial == HEADER.serial + 1


def test_same_cache_gives_the_same_lock(site: Site, warm: Path) -> None:
    main(command(site, warm))
    before = site.locks.path("engine-cache-big").read_bytes()
    for path in warm.rglob("*"):
        os.utime(path, (1, 1))
    main(command(site, warm))
    assert site.locks.path("engine-cache-big").read_bytes() == before
    header = site.locks.header()
    assert header is not None
    assert header.serial == HEADER.serial + 1


def test_part_carries_record_and_archive(site: Site, warm: Path) -> None:
    main(command(site, warm))
    resolver = site.resolver()
    lock = site.locks.read("engine-cache-big")
    assert lock is not None
    part = resolver.spec.part("engine-cache-big")
    made = Maker(resolver, HEADER, {part.name: lock}).make(part)
    assert [row["path"] for row in made.entry["files"]] == ["cache.json", "cache.tar"]
    assert made.entry["type"] == "engine_cache"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("notes.txt", "lies in none of"),
        ("torch_compile_cache/run.sh", "ending '.sh'"),
        ("torch_compile_cache/weights.safetensors", "ending '.safetensors'"),
        ("deep_gemm/tool", "ending '(none)'"),
        ("torch_compile_cache/a b.py", "is not allowed"),
        ("workspace/.cache/flashinfer/0.7.2/90a/cached_ops/x/build.ninja", "flashinfer-jit-cache"),
    ],
)
def test_file_that_is_no_caches_is_refused(
    site: Site, warm: Path, path: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (warm / path).parent.mkdir(parents=True, exist_ok=True)
    (warm / path).write_bytes(b"x")
    assert main(command(site, warm)) == 2
    assert message in capsys.readouterr().err
    assert site.locks.read("engine-cache-big") is None


def test_links_and_pipes_are_refused(warm: Path) -> None:
    (warm / "torch_compile_cache/linked.py").symlink_to("/etc/passwd")
    with pytest.raises(SpecError, match=r"linked\.py is a link"):
        engine_cache.files(warm)
    (warm / "torch_compile_cache/linked.py").unlink()
    (warm / "deep_gemm/folder").symlink_to("/etc")
    with pytest.raises(SpecError, match="folder is a link"):
        engine_cache.files(warm)
    (warm / "deep_gemm/folder").unlink()
    os.mkfifo(warm / "deep_gemm/pipe.py")
    with pytest.raises(SpecError, match="device or socket"):
        engine_cache.files(warm)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"driver": "new"}, "driver is 'new'"),
        ({"capability": "sm90"}, "capability is 'sm90'"),
        ({"environment": "none"}, "no part 'wheels-none'"),
        ({"model": "none"}, "model-none has no lock"),
        ({"part": "wheels-vllm-cuda"}, "not engine_cache"),
    ],
)
def test_wrong_words_are_told(
    site: Site,
    warm: Path,
    changes: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(site, warm, **changes)) == 2
    assert message in capsys.readouterr().err


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="has no file"):
        engine_cache.files(tmp_path)


def test_without_its_content_the_lock_names_the_command(site: Site, warm: Path) -> None:
    main(command(site, warm))
    lock = site.locks.read("engine-cache-big")
    assert lock is not None
    site.store.path(lock.file("cache.tar").sha256).unlink()
    with pytest.raises(LockError, match="engine-cache"):
        site.resolver().fetch(site.resolver().spec.part("engine-cache-big"), lock)


def test_a_gate_looks_at_caches() -> None:
    assert evaluate.PART_GATES["caches"][0] == "engine_cache"
