"""What an environment may not hold: other wheels, other files, code that runs by itself."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.tests import makers
from python_plugins.tests.policy.bench import Bench, environment
from tresor.policy import wheels
from tresor.policy.rules import Declarations
from tresor.policy.verdict import RefusalError

GOOD = makers.wheel("demo-app", "1.0", {"demo.py": b"1"})


def spoil(bench: Bench, *found: tuple[str, bytes]) -> list[str]:
    bench.parts["wheels-app"] = ("wheels", environment(*found))
    return bench.refused()


@pytest.mark.parametrize(
    "path",
    [
        "evil.pth",
        "sitecustomize.py",
        "usercustomize.py",
        "sitecustomize/__init__.py",
        "demo_app-1.0.data/purelib/evil.pth",
        "demo_app-1.0.data/platlib/sitecustomize.py",
        "SiteCustomize.py",
        "demo_app-1.0.data/data/lib/python3.11/site-packages/evil.pth",
        "demo_app-1.0.data/data/lib64/python3.13/site-packages/sitecustomize.py",
        "demo_app-1.0.data/data/pyvenv.cfg",
    ],
)
def test_file_that_runs_at_start_needs_an_allowance(bench: Bench, path: str) -> None:
    found = makers.wheel("demo-app", "1.0", {path: b"import os"})
    assert spoil(bench, found) == ["wheels.start-up"]
    allow = {("wheels.start-up", "demo-app"): frozenset({path})}
    bench.declared = Declarations(allow=allow)
    assert bench.refused() == []
    bench.declared = Declarations(allow={("wheels.start-up", "other"): frozenset({path})})
    assert bench.refused() == ["wheels.start-up"]


@pytest.mark.parametrize(
    ("members", "program"),
    [
        ({"demo_app-1.0.data/scripts/python3": b"#!/bin/sh"}, "python3"),
        ({"demo_app-1.0.data/data/bin/python3.11": b"\x7fELF"}, "python3.11"),
        ({"demo_app-1.0.data/scripts/activate.fish": b""}, "activate.fish"),
    ],
)
def test_program_in_the_interpreters_place_is_refused(
    bench: Bench, members: dict[str, bytes], program: str
) -> None:
    assert spoil(bench, makers.wheel("demo-app", "1.0", members)) == ["wheels.start-up"]
    text = f"[console_scripts]\n{program} = demo:run\n"
    assert spoil(bench, makers.wheel("demo-app", "1.0", {}, entry_points=text)) == [
        "wheels.start-up"
    ]
    good = "[console_scripts]\npythonic = demo:run\nactivator = demo:run\n"
    assert spoil(bench, makers.wheel("demo-app", "1.0", {}, entry_points=good)) == []


def test_program_of_another_wheel_is_not_replaced(bench: Bench) -> None:
    text = "[console_scripts]\nvllm = demo:run\n"
    first = makers.wheel("demo-app", "1.0", {}, entry_points=text)
    other = makers.wheel("evil", "1.0", {"evil-1.0.data/scripts/vllm": b"#!/bin/sh"})
    assert spoil(bench, first, other) == ["wheels.collision"]


@pytest.mark.parametrize(
    "path",
    [
        "vllm-9.egg-info/entry_points.txt",
        "Evil-1.0.DIST-INFO/entry_points.txt",
        "demo_app-1.0.data/purelib/evil-1.0.dist-info/entry_points.txt",
        "demo_app-1.0.data/purelib/demo_app-1.0.dist-info/entry_points.txt",
        "demo_app-1.0.data/data/lib/python3.11/site-packages/evil-1.0.dist-info/entry_points.txt",
        "evil.egg-info",
    ],
)
def test_metadata_of_another_package_is_refused(bench: Bench, path: str) -> None:
    """Its entry points would be found as those of a package that nobody pinned."""
    members = {path: b"[vllm.general_plugins]\nevil = demo:run\n"}
    assert "wheels.metadata" in spoil(bench, makers.wheel("demo-app", "1.0", members))


@pytest.mark.parametrize("line", ["Name: evil\n", "Version: 9\n"])
def test_metadata_with_two_identities_is_refused(bench: Bench, line: str) -> None:
    found = makers.wheel("demo-app", "1.0", {}, metadata=f"License-Expression: MIT\n{line}")
    assert "wheels.metadata" in spoil(bench, found)


def test_file_that_is_not_what_record_says_is_refused(bench: Bench) -> None:
    """The digest of the wheel is right: whoever changed the file also locked the wheel."""
    file, good = makers.wheel("demo-app", "1.0", {"demo.py": b"1"})
    changed = dict(members_of(good))
    changed["demo.py"] = b"2"
    assert spoil(bench, (file, makers.zip_of(changed))) == ["wheels.record"]


def test_wheel_that_unpacks_to_much_more_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "_MAX_UNPACKED", 1000)
    found = makers.wheel("demo-app", "1.0", {"demo.bin": b"\0" * 5_000_000}, packed=True)
    assert "wheels.zip" in spoil(bench, found)
    monkeypatch.undo()
    assert spoil(bench, found) == []


def members_of(raw: bytes) -> dict[str, bytes]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "group",
    ["vllm.general_plugins", "vllm.platform_plugins", "torch.backends", "opentelemetry_propagator"],
)
def test_plugin_needs_an_allowance(bench: Bench, group: str) -> None:
    text = f"[{group}]\nevil = demo:run\n"
    found = makers.wheel("demo-app", "1.0", {"demo.py": b""}, entry_points=text)
    assert spoil(bench, found) == ["wheels.plugin"]
    bench.declared = Declarations(allow={("wheels.plugin", "demo-app"): frozenset({group})})
    assert bench.refused() == []


@pytest.mark.parametrize(
    "group", ["console_scripts", "gui_scripts", "pytest11", "distutils.commands"]
)
def test_programs_and_developers_tools_need_none(bench: Bench, group: str) -> None:
    found = makers.wheel("demo-app", "1.0", {}, entry_points=f"[{group}]\nx = demo:run\n")
    assert spoil(bench, found) == []


def test_nested_pth_and_vendored_metadata_are_harmless(bench: Bench) -> None:
    members = {"demo/x.pth": b"", "demo/_vendor/a-1.dist-info/METADATA": b"Name: a\n"}
    assert spoil(bench, makers.wheel("demo-app", "1.0", members)) == []


RECORD = "demo_app-1.0.dist-info/RECORD,,"
BAD_RECORDS = {
    "a file is not listed": ["demo.py,sha256=x,1", RECORD],
    "nothing is listed": [RECORD],
    "a row twice": ["demo.py,sha256=x,1", "demo.py,sha256=x,1", RECORD],
    "two columns": ["demo.py,sha256=x", RECORD],
}


@pytest.mark.parametrize("name", sorted(BAD_RECORDS))
def test_record_must_list_everything(bench: Bench, name: str) -> None:
    found = makers.wheel("demo-app", "1.0", {"demo.py": b"1"}, record=BAD_RECORDS[name])
    assert spoil(bench, found)[0] == "wheels.record"


def test_record_without_digest_is_refused_unless_reviewed(bench: Bench) -> None:
    names = ["demo.py", "demo_app-1.0.dist-info/METADATA", "demo_app-1.0.dist-info/WHEEL"]
    rows = [*(f"{name},," for name in names), RECORD]
    assert spoil(bench, makers.wheel("demo-app", "1.0", {"demo.py": b"1"}, record=rows)) == [
        "wheels.record"
    ]
    bench.declared = Declarations(allow={("wheels.record", "demo-app"): frozenset(names)})
    assert bench.refused() == []


def test_wheel_outside_the_pins_is_refused(bench: Bench) -> None:
    files = environment(GOOD)
    file, raw = makers.wheel("extra", "1.0", {"x.py": b""})
    bench.parts["wheels-app"] = ("wheels", {**files, file: raw})
    assert bench.refused() == ["wheels.outside-lock"]


def test_higher_version_beside_the_locked_one_is_refused(bench: Bench) -> None:
    files = environment(GOOD)
    file, raw = makers.wheel("demo-app", "9.0", {"demo.py": b"evil"})
    bench.parts["wheels-app"] = ("wheels", {**files, file: raw})
    assert bench.refused() == ["wheels.outside-lock"]


def test_higher_version_under_the_locked_name_is_refused(bench: Bench) -> None:
    _, raw = makers.wheel("demo-app", "9.0", {"demo.py": b"evil"})
    assert "wheels.metadata" in spoil(bench, ("demo_app-1.0-py3-none-any.whl", raw))


def test_other_package_under_the_locked_name_is_refused(bench: Bench) -> None:
    _, raw = makers.wheel("evil", "1.0", {"demo.py": b"evil"})
    assert "wheels.metadata" in spoil(bench, ("demo_app-1.0-py3-none-any.whl", raw))


def test_missing_wheel_is_refused(bench: Bench) -> None:
    files = environment(GOOD)
    del files[GOOD[0]]
    bench.parts["wheels-app"] = ("wheels", files)
    assert bench.refused() == ["wheels.missing"]


@pytest.mark.parametrize(
    "line",
    [
        "evil",
        "evil>=1",
        "--index-url=x",
        "-e .",
        "evil @ file:///x",
        "demo-app==2.0 --hash=sha256:" + "0" * 64,
        "evil==1 --hash=md5:0",
        "evil==1",
        "# note",
        "evil==1 --hash=sha256:" + "0" * 64 + " --hash=sha256:" + "1" * 64,
    ],
)
def test_pins_hold_nothing_else(bench: Bench, line: str) -> None:
    files = environment(GOOD)
    files["requirements.txt"] += f"{line}\n".encode()
    bench.parts["wheels-app"] = ("wheels", files)
    assert bench.refused() == ["wheels.pins"]


def test_wheel_that_replaces_files_of_another_is_refused(bench: Bench) -> None:
    other = makers.wheel("evil", "1.0", {"demo.py": b"evil"})
    assert spoil(bench, GOOD, other) == ["wheels.collision"]
    through_data = makers.wheel("evil", "1.0", {"evil-1.0.data/purelib/demo.py": b"evil"})
    assert spoil(bench, GOOD, through_data) == ["wheels.collision"]
    same = makers.wheel("friend", "1.0", {"demo.py": b"1"})
    assert spoil(bench, GOOD, same) == []


def _zip_variants() -> dict[str, bytes]:
    _, raw = GOOD
    end = raw.rindex(b"PK\5\6")
    directory = raw.index(b"PK\1\2")
    renamed = bytearray(raw)
    renamed[30:34] = b"evil"
    sized = bytearray(raw)
    sized[18:22] = struct.pack("<L", 99)
    encrypted = bytearray(raw)
    encrypted[directory + 8] |= 1
    encrypted[6] |= 1
    return {
        "prefix": b"#!/bin/sh\n" + raw,
        "tail": raw + b"\0",
        "second archive behind": raw + raw,
        "comment": raw[:end] + raw[end : end + 20] + struct.pack("<H", 3) + b"abc",
        "cut off": raw[:-1],
        "gap before the directory": raw[:directory] + b"\0" + raw[directory:],
        "other name in the header": bytes(renamed),
        "other size in the header": bytes(sized),
        "encrypted": bytes(encrypted),
        "no zip": b"wheel",
        "empty": b"",
    }


ZIPS = _zip_variants()


@pytest.mark.parametrize("name", sorted(ZIPS))
def test_ambiguous_archives_are_refused(bench: Bench, name: str) -> None:
    assert "wheels.zip" in spoil(bench, (GOOD[0], ZIPS[name]))


@pytest.mark.parametrize(
    "path",
    ["../evil.py", "/etc/cron.d/evil", "a/../../b", "a\\b", "C:/x", "./x", "a//b", "x\n.py", "a/."],
)
def test_unsafe_member_names_are_refused(bench: Bench, path: str) -> None:
    assert spoil(bench, makers.wheel("demo-app", "1.0", {path: b""}))[0] == "wheels.zip"


def test_links_in_a_wheel_are_refused() -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link", makers.EPOCH)
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(RefusalError, match="link or a device"):
        wheels.inspect(io.BytesIO(buffer.getvalue()), GOOD[0])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(GOOD[1]) - 1), st.integers(1, 255))
def test_a_changed_byte_never_crashes(position: int, change: int) -> None:
    import io

    raw = bytearray(GOOD[1])
    raw[position] ^= change
    try:
        wheels.inspect(io.BytesIO(bytes(raw)), GOOD[0])
    except RefusalError as error:
        assert error.rule.startswith("wheels.")
