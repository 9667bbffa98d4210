"""Compiled kernels reach an engine's cache as the release lists them, before every start."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "vllm" / "files" / "engine_cache.py"
KERNEL = "torch_compile_cache/torch_aot_compile/ab/rank_0_0/triton_cache/AB/kernel.cubin"
GRAPH = "torch_compile_cache/torch_aot_compile/ab/rank_0_0/model"
FILES = {KERNEL: b"\x7fELF kernel", GRAPH: b"graph", "deep_gemm/cache/k.so": b"so"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Make the folder that the role brings."""
    folder = tmp_path / "release"
    folder.mkdir()
    write(folder, FILES)
    (tmp_path / "cache").mkdir(mode=0o700)
    return folder


def write(folder: Path, files: dict[str, bytes], listed: dict[str, bytes] | None = None) -> None:
    rows = [
        {"path": path, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for path, raw in sorted((listed or files).items())
    ]
    (folder / "cache.json").write_text(json.dumps({"files": rows}))
    with tarfile.open(folder / "cache.tar", "w") as archive:
        for path, raw in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))


def place(release: Path, *options: str) -> tuple[int, str]:
    cache = release.parent / "cache"
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, release, cache, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def held(release: Path) -> dict[str, bytes]:
    cache = release.parent / "cache"
    return {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file()
    }


def test_an_empty_cache_gets_what_is_listed_for_the_engine_alone(release: Path) -> None:
    assert place(release) == (0, "engine cache: 3 files written, 0 foreign ones removed\n")
    assert held(release) == FILES
    kernel = release.parent / "cache" / KERNEL
    assert kernel.stat().st_mode & 0o777 == 0o600
    assert kernel.parent.stat().st_mode & 0o077 == 0
    assert place(release) == (0, "")


def test_a_changed_kernel_of_the_same_size_is_put_right(release: Path) -> None:
    place(release)
    kernel = release.parent / "cache" / KERNEL
    kernel.write_bytes(b"\x7fELF KERNEL")
    code, said = place(release)
    assert (code, kernel.read_bytes()) == (0, FILES[KERNEL])
    assert "1 files written" in said


def test_what_the_engine_added_stays_unless_the_cache_is_locked(release: Path) -> None:
    place(release)
    own = release.parent / "cache" / "torch_compile_cache" / "own.py"
    own.write_text("import os\n")
    (own.parent / "linked").symlink_to("/etc")
    place(release)
    assert own.exists()
    code, said = place(release, "--locked")
    assert (code, held(release)) == (0, FILES)
    assert "2 foreign ones removed" in said
    assert not (own.parent / "linked").is_symlink()


def test_a_link_in_place_of_a_file_or_folder_is_replaced(release: Path) -> None:
    place(release)
    cache = release.parent / "cache"
    elsewhere = release.parent / "elsewhere"
    (cache / "deep_gemm").rename(elsewhere)
    (cache / "deep_gemm").symlink_to(elsewhere)
    (cache / KERNEL).unlink()
    (cache / KERNEL).symlink_to("/etc/hostname")
    code, _ = place(release)
    assert code == 0
    assert not (cache / "deep_gemm").is_symlink()
    assert not (cache / KERNEL).is_symlink()
    assert held(release) == FILES


def test_a_second_name_of_a_file_is_no_way_to_change_it(release: Path) -> None:
    place(release)
    kernel = release.parent / "cache" / KERNEL
    os.link(kernel, release.parent / "second")
    place(release)
    (release.parent / "second").write_bytes(b"other")
    assert kernel.read_bytes() == FILES[KERNEL]


@pytest.mark.parametrize(
    ("carried", "listed", "message"),
    [
        ({KERNEL: b"evil"}, {KERNEL: b"good"}, "not as listed"),
        ({GRAPH: b"graph"}, {GRAPH: b"graph", KERNEL: b"k"}, "is not in the archive"),
        ({"../out": b"x"}, {"../out": b"x"}, "leads out of the cache"),
        ({"/tmp/out": b"x"}, {"/tmp/out": b"x"}, "leads out of the cache"),
    ],
)
def test_list_and_archive_that_do_not_fit_stop_the_start(
    release: Path, carried: dict[str, bytes], listed: dict[str, bytes], message: str
) -> None:
    write(release, carried, listed)
    code, said = place(release)
    assert code == 1
    assert message in said
    assert "run the converge stage" in said


def test_a_link_in_the_archive_is_refused(release: Path) -> None:
    raw = b"content"
    write(release, {}, {KERNEL: raw})
    with tarfile.open(release / "cache.tar", "w") as archive:
        member = tarfile.TarInfo(KERNEL)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    code, said = place(release)
    assert code == 1
    assert "no plain file" in said
    assert held(release) == {}
