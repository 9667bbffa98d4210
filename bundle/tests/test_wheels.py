"""Wheels: the right one for the target, pip's own sources, and wheels made here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from bundle.builder import metadata_wheel, projects, wheels
from bundle.builder.blobs import BlobStore
from bundle.builder.errors import CommandError, FetchError
from bundle.builder.lock import LockedFile
from bundle.builder.pip_sources import PipSources, parse_config
from bundle.builder.wheels import Target, batches, choose, requirements_text, resolve


def row(file: str, digit: int, size: int | None, place: str) -> str:
    """Return a wheel of a lock file."""
    length = "" if size is None else f"size = {size}, "
    return f'{{ url = "{place}/{file}", {length}hashes = {{ sha256 = "{str(digit) * 64}" }} }}'


TAGS = (
    "py3-none-any",
    "cp311-cp311-manylinux_2_28_x86_64",
    "cp313-cp313-manylinux_2_28_x86_64",
    "cp311-cp311-manylinux_2_40_x86_64",
)
FAST = ", ".join(
    row(f"fast_thing-2.0-{tag}.whl", number, number + 1, "https://example.com/a")
    for number, tag in enumerate(TAGS)
)
LOCAL = row("local-1.0%2Bcpu-py3-none-any.whl", 4, None, "file:///wheels")
PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "Fast.Thing"
version = "2.0"
wheels = [{FAST}]
[[packages]]
name = "local"
version = "1.0+cpu"
wheels = [{LOCAL}]
"""
PY311 = Target("3.11", "2.36")


def entry(name: str, size: int) -> LockedFile:
    return LockedFile(name, "1", f"{name}-1.whl", size, "0" * 64)


def test_the_best_wheel_for_the_target_is_chosen() -> None:
    fast, local = choose(PYLOCK, PY311)
    assert (fast.name, fast.size) == ("fast-thing", 2), "2_40 is too new for glibc 2.36"
    assert local.file == "local-1.0+cpu-py3-none-any.whl"
    assert local.local == Path("/wheels/local-1.0+cpu-py3-none-any.whl")
    assert choose(PYLOCK, Target("3.13", "2.41"))[0].size == 3
    assert choose(PYLOCK, Target("3.11", "2.41"))[0].size == 4


def test_package_without_a_usable_wheel_is_named() -> None:
    text = PYLOCK.replace("py3-none-any", "cp39-cp39-win_amd64")
    with pytest.raises(FetchError, match=r"local 1\.0\+cpu has no wheel for Python 3\.11"):
        choose(text, PY311)


def test_batches_are_small_and_start_with_the_biggest() -> None:
    entries = [entry(f"p{number}", 1) for number in range(30)] + [entry("huge", 200_000_000)]
    grouped = batches(entries)
    assert [item.name for item in grouped[0]] == ["huge"]
    assert max(len(group) for group in grouped) == 12
    assert sorted(item.name for group in grouped for item in group) == sorted(
        item.name for item in entries
    )


def test_requirements_are_sorted_and_hashed() -> None:
    text = requirements_text([entry("b", 1), entry("a", 1)])
    assert text == f"a==1 --hash=sha256:{'0' * 64}\nb==1 --hash=sha256:{'0' * 64}\n"


def test_pip_configuration_is_handed_to_uv() -> None:
    listing = (
        ":env:.find-links='/opt/a'\n"
        "global.find-links='/opt/b'\n"
        "global.index-url='https://example.com/simple'\n"
        "global.extra-index-url='https://example.com/one https://example.com/two'\n"
    )
    sources = parse_config(listing)
    assert sources.find_links == ("/opt/a",), "the environment wins, as in pip"
    assert sources.uv_args(extra=False) == [
        "--default-index",
        "https://example.com/simple",
        "--find-links",
        "/opt/a",
    ]
    assert sources.uv_args(extra=True).count("--extra-index-url") == 2
    assert parse_config("") == PipSources(None, (), ())


@pytest.mark.parametrize(
    ("override", "hinted"), [("torch==2.13.0+cpu", True), ("torch==2.13.0", False)]
)
def test_missing_local_torch_says_how_to_add_a_source(
    override: str, hinted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def refuse(args: list[str], **_: object) -> str:
        calls.append("--extra-index-url" in args)
        raise CommandError("no solution")

    monkeypatch.setattr(wheels, "run", refuse)
    monkeypatch.setattr(wheels, "pip_sources", lambda: PipSources(None, ("https://x",), ()))
    want = {"name": "wheels-x", "python": "3.11", "glibc": "2.36", "overrides": [override]}
    with pytest.raises(FetchError) as caught:
        resolve(want, ["engine==1"], [], tmp_path)
    assert ("pip config set global.find-links" in str(caught.value)) is hinted
    assert calls == [False, True], "extra indexes are asked second"


def test_metadata_wheel_is_deterministic_and_installable(tmp_path: Path) -> None:
    first = metadata_wheel.build("vllm", "0.32.0+cpu", ["audio", "bench"], "name only")
    assert first == metadata_wheel.build("vllm", "0.32.0+cpu", ["bench", "audio"], "name only")
    name, raw = first
    assert name == "vllm-0.32.0+cpu-py3-none-any.whl"
    path = tmp_path / name
    path.write_bytes(raw)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = archive.read("vllm-0.32.0+cpu.dist-info/METADATA").decode()
        record = archive.read("vllm-0.32.0+cpu.dist-info/RECORD").decode()
    assert all(member.startswith("vllm-0.32.0+cpu.dist-info/") for member in names)
    assert metadata.splitlines()[1:3] == ["Name: vllm", "Version: 0.32.0+cpu"]
    assert "Provides-Extra: audio" in metadata
    assert sorted(line.split(",")[0] for line in record.splitlines()) == sorted(names)


def test_own_wheel_depends_on_the_tree_alone(tmp_path: Path) -> None:
    builds = []
    for run in ("one", "two"):
        project = tmp_path / run / "demo"
        (project / "src/demo").mkdir(parents=True)
        (project / "src/demo/__init__.py").write_text("VALUE = 1\n")
        (project / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            '[project]\nname = "demo"\nversion = "1.0"\ndependencies = ["b", "a"]\n'
            '[tool.hatch.build.targets.wheel]\npackages = ["src/demo"]\n'
        )
        (project / "tests").mkdir()
        (project / "tests/test_demo.py").write_text(f"# {run}\n")
        store = BlobStore(tmp_path / run / "cache")
        builds.append(projects.build_wheel(project, store))
        assert projects.build_wheel(project, store) == builds[-1]
        assert projects.requirements(project) == ["a", "b"]
    assert builds[0] == builds[1]
    (project / "src/demo/__init__.py").write_text("VALUE = 2\n")
    assert projects.build_wheel(project, store) != builds[1]
