"""A second environment takes what the first one has, if it is still what was installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.store_client.helpers import FakeStore, environment_part, wheel
from python_plugins.tests.store_client.test_modules import run as run  # noqa: PLC0414 - a fixture

Options = dict[str, object]
Run = Callable[..., dict[str, Any]]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
TALKER = wheel(
    "talker",
    "1.0",
    {"talker/__init__.py": "def main():\n    print('I am', __file__)\n", "talker/data.txt": "d"},
    command="talk=talker:main",
)
OTHER = wheel("other", "1.0", {"other.py": "VALUE = 1\n"})


def offer(store: FakeStore, name: str, version: str, *wheels: tuple[str, bytes]) -> Options:
    """Put an environment into the store; return what the module is asked for."""
    files, digest = environment_part(name, version, PYTHON, list(wheels))
    store.files = {k: v for k, v in store.files.items() if not k.startswith(f"wheels-{name}/")}
    store.add_part(f"wheels-{name}", files)
    return {"name": name, "version": version, "requirements_sha256": digest}


@pytest.fixture
def install(run: Run, store: FakeStore, demo: Options) -> Callable[..., dict[str, Any]]:
    """Return a function that installs an environment of some wheels."""

    def call(name: str, version: str, *wheels: tuple[str, bytes], **more: object) -> dict[str, Any]:
        wanted = offer(store, name, version, *wheels)
        store.asked.clear()
        result = run("tresor_environment", {**demo, "warm_imports": [], **wanted, **more})
        assert not result.get("failed"), result
        return result

    return call


def site(result: dict[str, Any]) -> Path:
    return Path(result["release"]) / "lib" / f"python{PYTHON}" / "site-packages"


def talk(result: dict[str, Any]) -> str:
    program = Path(result["release"]) / "bin" / "talk"
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


def fetched(store: FakeStore, name: str) -> list[str]:
    start = f"wheels-{name}/"
    return [path for path in store.asked if path.startswith(start) and path.endswith(".whl")]


def is_whole(result: dict[str, Any], info: str) -> bool:
    """Compare every file of a wheel with RECORD, as pip's users would."""
    root = site(result)
    with (root / info / "RECORD").open(newline="") as stream:
        rows = [row for row in csv.reader(stream) if row[1]]
    assert len(rows) > 3
    for path, digest, size in rows:
        found = base64.urlsafe_b64encode(hashlib.sha256((root / path).read_bytes()).digest())
        if digest != f"sha256={found.decode().rstrip('=')}":
            return False
        if int(size) != (root / path).stat().st_size:
            return False
    return True


def test_second_environment_of_the_same_wheels_fetches_none(
    install: Callable[..., dict[str, Any]], store: FakeStore
) -> None:
    first = install("demo", "1.0", TALKER, OTHER)
    assert first["reused_wheels"] == 0
    second = install("twin", "1.0", TALKER, OTHER)
    assert second["reused_wheels"] == 2
    assert fetched(store, "twin") == []
    for name in ("talker/__init__.py", "talker/data.txt", "other.py"):
        assert (site(first) / name).samefile(site(second) / name)
    # Its commands are its own: they load from it, not from where they came.
    assert talk(second) == f"I am {site(second)}/talker/__init__.py\n"
    assert talk(first) == f"I am {site(first)}/talker/__init__.py\n"
    assert is_whole(second, "talker-1.0.dist-info")


def test_upgrade_fetches_what_changed_only(
    install: Callable[..., dict[str, Any]], store: FakeStore
) -> None:
    first = install("demo", "1.0", TALKER, OTHER)
    newer = wheel("other", "2.0", {"other.py": "VALUE = 2\n"})
    second = install("demo", "2.0", TALKER, newer)
    assert second["reused_wheels"] == 1
    assert fetched(store, "demo") == ["wheels-demo/other-2.0-py3-none-any.whl"]
    assert (site(second) / "other.py").read_text() == "VALUE = 2\n"
    assert (site(first) / "other.py").read_text() == "VALUE = 1\n"
    assert not (site(second) / "other-1.0.dist-info").exists()
    assert talk(second).startswith(f"I am {site(second)}")
    # What the upgrade keeps is told further: the next one takes it from here.
    third = install("demo", "3.0", TALKER, newer)
    assert third["reused_wheels"] == 2


def test_file_that_two_wheels_own_is_taken_once(
    install: Callable[..., dict[str, Any]], store: FakeStore
) -> None:
    one, two = (wheel(name, "1.0", {"common.txt": "c", f"{name}.py": ""}) for name in ("ab", "cd"))
    first = install("demo", "1.0", one, two)
    second = install("twin", "1.0", one, two)
    assert second["reused_wheels"] == 2
    assert fetched(store, "twin") == []
    assert (site(first) / "common.txt").samefile(site(second) / "common.txt")


def changed(path: Path) -> None:
    path.write_text("def main():\n    print('evil')\n")


def removed(path: Path) -> None:
    path.unlink()


def link_elsewhere(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("damage", [changed, removed, link_elsewhere])
def test_wheel_that_is_not_as_it_was_is_fetched(
    install: Callable[..., dict[str, Any]], store: FakeStore, damage: Callable[[Path], None]
) -> None:
    first = install("demo", "1.0", TALKER, OTHER)
    damage(site(first) / "talker" / "__init__.py")
    second = install("twin", "1.0", TALKER, OTHER)
    assert second["reused_wheels"] == 1
    assert fetched(store, "twin") == ["wheels-twin/talker-1.0-py3-none-any.whl"]
    assert talk(second) == f"I am {site(second)}/talker/__init__.py\n"
    assert is_whole(second, "talker-1.0.dist-info")


@pytest.mark.parametrize("row", ["../../../../../outside,sha256=x,1", "talker/new.py,,", "a,b"])
def test_record_that_cannot_be_believed_is_not(
    install: Callable[..., dict[str, Any]], store: FakeStore, row: str
) -> None:
    first = install("demo", "1.0", TALKER)
    record = site(first) / "talker-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + row + "\n")
    second = install("twin", "1.0", TALKER)
    assert second["reused_wheels"] == 0
    assert len(fetched(store, "twin")) == 1


def test_other_python_takes_nothing(
    install: Callable[..., dict[str, Any]], store: FakeStore
) -> None:
    first = install("demo", "1.0", TALKER)
    marker = Path(first["release"]) / ".tresor-environment.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "python": "3.0"}))
    assert install("twin", "1.0", TALKER)["reused_wheels"] == 0


def test_compiled_code_comes_along_and_nothing_is_imported_again(
    install: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    count = tmp_path / "imports"
    source = f"open({str(count)!r}, 'a').write('x')\n"
    counting = wheel("counting", "1.0", {"counting.py": source})
    first = install("demo", "1.0", counting, warm_imports=["counting"])
    assert count.read_text() == "x"
    second = install("twin", "1.0", counting, warm_imports=["counting"])
    assert count.read_text() == "x"
    name = f"__pycache__/counting.cpython-{PYTHON.replace('.', '')}.pyc"
    assert (site(first) / name).samefile(site(second) / name)
    # A compiled file that somebody changed is left behind, and made anew when it is needed.
    (site(first) / name).write_bytes(b"evil")
    (site(second) / name).unlink(missing_ok=True)
    third = install("third", "1.0", counting, warm_imports=["counting"])
    assert not (site(third) / name).exists() or (site(third) / name).read_bytes() != b"evil"
