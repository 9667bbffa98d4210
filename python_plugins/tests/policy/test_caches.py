"""Compiled kernels pass only when somebody answers for them, and approvers see that it is code."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from python_plugins.tests.policy.bench import Bench, sha
from tresor.bundle import content, release
from tresor.bundle.errors import RejectedError
from tresor.engine_cache import archive, record
from tresor.policy.rules import Declarations
from tresor.policy.verdict import NOTE

PART = "engine-cache-big"
FILES = {
    "deep_gemm/cache/k.cubin": b"\x7fELF",
    "torch_compile_cache/torch_aot_compile/ab/rank_0_0/model": b"aot",
}
FITS = record.Fits(
    environment="vllm-cuda",
    requirements_sha256="ee" * 32,
    gpu="H100 SXM 80GB",
    capability="9.0",
    driver="580.95.05",
    model="tiny",
    model_digest="sha256:" + "ab" * 32,
    engine_sha256="cd" * 32,
)


def listed(files: dict[str, bytes] = FILES) -> record.Record:
    rows = [record.CacheFile(path, len(raw), sha(raw)) for path, raw in sorted(files.items())]
    return record.Record(FITS, tuple(rows))


def part(files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    target = io.BytesIO()
    archive.write(listed(files), lambda entry: io.BytesIO(files[entry.path]), target)
    return {"cache.json": listed(files).dump(), "cache.tar": target.getvalue()}


def allowed(bench: Bench, files: dict[str, bytes]) -> Bench:
    bench.parts[PART] = ("engine_cache", files)
    values = frozenset([sha(files["cache.json"])]) if "cache.json" in files else frozenset()
    bench.declared = Declarations(allow={("caches.code", PART): values})
    return bench


def test_nobody_answers_for_it_and_it_is_refused(bench: Bench) -> None:
    bench.parts[PART] = ("engine_cache", part())
    assert bench.refused() == ["caches.code"]


def test_an_allowance_for_another_list_is_none(bench: Bench) -> None:
    allowed(bench, part())
    bench.parts[PART] = ("engine_cache", part({"deep_gemm/other.cubin": b"x"}))
    assert bench.refused() == ["caches.code"]


def test_what_is_allowed_is_shown_as_code(bench: Bench) -> None:
    verdicts = allowed(bench, part()).verdicts()
    (shown,) = [item for item in verdicts if item.rule == "caches.code"]
    assert shown.severity == NOTE
    assert "2 files of CODE for H100 SXM 80GB" in shown.seen
    assert bench.refused() == []


def other_content(files: dict[str, bytes]) -> None:
    files["cache.tar"] = files["cache.tar"].replace(b"\x7fELF", b"\x7fevil"[:4])


def one_more(files: dict[str, bytes]) -> None:
    files["cache.tar"] = part(FILES | {"torch_compile_cache/z.py": b"import os"})["cache.tar"]


def a_link(files: dict[str, bytes]) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as written:
        member = tarfile.TarInfo("deep_gemm/cache/k.cubin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        written.addfile(member)
    files["cache.tar"] = target.getvalue()


def no_archive(files: dict[str, bytes]) -> None:
    files["cache.tar"] = b"PK\x03\x04" * 200


def compressed(files: dict[str, bytes]) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz"):
        pass
    files["cache.tar"] = target.getvalue()


def further_file(files: dict[str, bytes]) -> None:
    files["setup.py"] = b""


def way_out(files: dict[str, bytes]) -> None:
    files["cache.json"] = files["cache.json"].replace(b"deep_gemm/cache/k", b"deep_gemm/../../k")


def unknown_key(files: dict[str, bytes]) -> None:
    files["cache.json"] = files["cache.json"].replace(b'{"files"', b'{"x":1,"files"', 1)


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (other_content, "caches.archive"),
        (one_more, "caches.archive"),
        (a_link, "caches.archive"),
        (no_archive, "caches.archive"),
        (compressed, "caches.archive"),
        (further_file, "caches.files"),
        (way_out, "caches.path"),
        (unknown_key, "caches.record"),
    ],
)
def test_spoilt_cache_is_refused_though_somebody_answers(
    bench: Bench, spoil: Callable[[dict[str, bytes]], None], rule: str
) -> None:
    files = part()
    spoil(files)
    assert allowed(bench, files).refused() == [rule]


def test_release_tells_what_a_cache_fits(bench: Bench) -> None:
    view = allowed(bench, part()).view()
    fits = content.engine_caches(view.manifest, view.locate)
    made = release.release_record(view.manifest, (), fits)["tresor_release"]
    assert isinstance(made, dict)
    cache = made["engine_caches"]["big"]
    assert cache["fits"] == FITS.as_json()
    assert [entry["path"] for entry in cache["files"]] == ["cache.json", "cache.tar"]


def test_release_without_caches_is_as_it_was(bench: Bench) -> None:
    view = bench.view()
    assert content.engine_caches(view.manifest, view.locate) == {}
    made = release.release_record(view.manifest, (), {})["tresor_release"]
    assert isinstance(made, dict)
    assert "engine_caches" not in made


def test_content_check_refuses_a_cache_of_other_files(bench: Bench) -> None:
    bench.parts[PART] = ("engine_cache", {"cache.json": b"{}"})
    view = bench.view()
    with pytest.raises(RejectedError, match="must hold"):
        content.engine_caches(view.manifest, view.locate)
