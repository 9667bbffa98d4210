"""The modules against a store over real mutual TLS: check, do, check, do, and every refusal."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests import module_call
from python_plugins.tests.store_client.helpers import (
    Authority,
    FakeStore,
    environment_part,
    wheel,
)

MODULES = Path(__file__).parents[2] / "modules"
Options = dict[str, object]
Run = Callable[..., dict[str, Any]]


def load(name: str) -> Any:
    """Import a module as the other module tests do: one shared way, one copy of our helpers."""
    return module_call.load(name)


@pytest.fixture
def run(
    store: FakeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs a module's main() and returns its result."""
    from ansible.module_utils import basic

    def call(name: str, options: Options, *, check: bool = False) -> dict[str, Any]:
        connection = store.connection
        assert connection is not None
        arguments = {
            "store_url": store.url,
            "ca_cert": str(connection.ca_cert),
            "client_cert": str(connection.client_cert),
            "client_key": str(connection.client_key),
            "prefix": str(tmp_path / "opt"),
            **options,
            "_ansible_check_mode": check,
        }
        module = load(name)

        def fake(argument_spec: dict[str, Any], **more: Any) -> Any:
            raw = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            monkeypatch.setattr(basic, "_ANSIBLE_ARGS", raw)
            monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
            return basic.AnsibleModule(argument_spec=argument_spec, **more)

        monkeypatch.setattr(module, "AnsibleModule", fake)
        capsys.readouterr()
        umask = os.umask(0o022)
        try:
            with pytest.raises(SystemExit):
                module.main()
        finally:
            os.umask(umask)
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_environment_check_do_check_do(run: Run, demo: Options, tmp_path: Path) -> None:
    assert run("tresor_environment", demo, check=True)["changed"]
    assert not (tmp_path / "opt").exists()
    done = run("tresor_environment", demo)
    assert done["changed"], done
    assert not run("tresor_environment", demo, check=True)["changed"]
    assert not run("tresor_environment", demo)["changed"]
    release = Path(done["release"])
    assert Path(done["current"]).resolve() == release
    code = "import demo_x; print(demo_x.VALUE, demo_x.__cached__)"
    told = subprocess.run(
        [release / "bin/python", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert told[0] == "1" and Path(told[1]).exists(), "the warm import did not compile"
    names = {path.name for path in release.parent.iterdir()}
    assert names == {release.name, "current"}, "something was left behind"


def test_unchanged_environment_asks_the_store_nothing(
    run: Run, demo: Options, store: FakeStore
) -> None:
    run("tresor_environment", demo)
    store.asked.clear()
    assert not run("tresor_environment", demo)["changed"]
    assert store.asked == []


def test_upgrade_keeps_one_release_for_rollback(
    run: Run, demo: Options, store: FakeStore, tmp_path: Path
) -> None:
    first = run("tresor_environment", demo)
    for version in ("2.0", "3.0"):
        files, digest = environment_part(
            "demo",
            version,
            f"{sys.version_info[0]}.{sys.version_info[1]}",
            [wheel("demo_x", version, {"demo_x.py": "VALUE = 2\n"})],
        )
        store.files = {k: v for k, v in store.files.items() if not k.startswith("wheels-demo/")}
        store.add_part("wheels-demo", files)
        upgraded = {**demo, "version": version, "requirements_sha256": digest}
        last = run("tresor_environment", upgraded)
        assert last["changed"]
    folder = tmp_path / "opt/demo"
    assert last["previous"].startswith("2.0-")
    assert not Path(first["release"]).exists()
    assert sorted(path.name[:3] for path in folder.iterdir() if not path.is_symlink()) == [
        "2.0",
        "3.0",
    ]
    back = folder / last["previous"]
    record = json.loads((back / ".tresor-environment.json").read_bytes())
    store.asked.clear()
    options = {**demo, "version": "2.0", "requirements_sha256": record["requirements_sha256"]}
    assert run("tresor_environment", options)["changed"]
    assert (folder / "current").resolve() == back
    assert store.asked == [], "a rollback needs no download"


def foreign_wheel(store: FakeStore, options: Options) -> None:
    store.files["wheels-demo/demo_x-1.0-py3-none-any.whl"] += b"x"


def extra_wheel(store: FakeStore, options: Options) -> None:
    store.files["wheels-demo/evil-1-py3-none-any.whl"] = b"evil"


def missing_wheel(store: FakeStore, options: Options) -> None:
    del store.files["wheels-demo/demo_x-1.0-py3-none-any.whl"]


def other_release(store: FakeStore, options: Options) -> None:
    store.files["wheels-demo/requirements.txt"] += b"# other\n"


def other_tools(store: FakeStore, options: Options) -> None:
    store.files["wheels-tools/requirements.txt"] += b"# other\n"


def broken_uv(store: FakeStore, options: Options) -> None:
    store.files["wheels-tools/uv-1.0-py3-none-linux.whl"] += b"x"


def absent_part(store: FakeStore, options: Options) -> None:
    options["part"] = "wheels-nowhere"


def other_python(store: FakeStore, options: Options) -> None:
    path = "wheels-demo/environment.json"
    record = json.loads(store.files[path])
    store.files[path] = json.dumps({**record, "python": "3.1"}).encode()


def bad_module(store: FakeStore, options: Options) -> None:
    options["warm_imports"] = ["demo_x; print(1)"]


def absent_module(store: FakeStore, options: Options) -> None:
    options["warm_imports"] = ["not_there"]


def bad_name(store: FakeStore, options: Options) -> None:
    options["name"] = "../etc"


def no_certificate(store: FakeStore, options: Options) -> None:
    options["client_cert"] = "/nonexistent/host.crt"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (foreign_wheel, "store.digest"),
        (extra_wheel, "store.digest"),
        (missing_wheel, "store.missing"),
        (other_release, "store.digest"),
        (other_tools, "store.digest"),
        (broken_uv, "content.digest"),
        (absent_part, "store.answer"),
        (other_python, "environment.python"),
        (bad_module, "environment.warm-imports"),
        (bad_name, "environment.name"),
        (no_certificate, "store.tls"),
    ],
)
def test_wrong_environment_is_refused_and_leaves_nothing(
    run: Run, demo: Options, store: FakeStore, tmp_path: Path, *, change: object, rule: str
) -> None:
    change(store, demo)  # type: ignore[operator]
    result = run("tresor_environment", demo)
    assert result["failed"] and result["rule"] == rule
    assert not list((tmp_path / "opt").rglob("*.py"))
    assert not list((tmp_path / "opt").rglob("current"))


def test_failed_upgrade_leaves_the_old_release_current(
    run: Run, demo: Options, store: FakeStore
) -> None:
    good = run("tresor_environment", demo)
    broken = {**demo, "version": "2.0", "requirements_sha256": "0" * 64}
    assert run("tresor_environment", broken)["failed"]
    assert Path(good["current"]).resolve() == Path(good["release"])


def test_warm_import_that_fails_is_reported_and_repeated(run: Run, demo: Options) -> None:
    demo["warm_imports"] = ["not_there"]
    assert run("tresor_environment", demo)["rule"] == "environment.command"
    demo["warm_imports"] = ["demo_x"]
    assert run("tresor_environment", demo)["changed"]
    assert not run("tresor_environment", demo)["changed"]


def test_interrupted_download_is_tried_again(run: Run, demo: Options, store: FakeStore) -> None:
    store.cut.add("wheels-demo/demo_x-1.0-py3-none-any.whl")
    assert run("tresor_environment", demo)["changed"]


def test_environment_is_removed(run: Run, demo: Options, tmp_path: Path) -> None:
    run("tresor_environment", demo)
    absent: Options = {"name": "demo", "state": "absent"}
    assert run("tresor_environment", absent, check=True)["changed"]
    assert run("tresor_environment", absent)["changed"]
    assert not (tmp_path / "opt/demo").exists()
    assert not run("tresor_environment", absent)["changed"]
    assert run("tresor_environment", {"name": "../opt", "state": "absent"})["failed"]


def test_model_check_do_check_do(run: Run, model: Options, tmp_path: Path) -> None:
    assert run("tresor_model", model, check=True)["changed"]
    assert not (tmp_path / "opt").exists()
    done = run("tresor_model", model)
    assert done["changed"], done
    assert not run("tresor_model", model, check=True)["changed"]
    assert not run("tresor_model", model)["changed"]
    weights = Path(done["path"]) / "sub/weights+1.safetensors"
    assert weights.read_bytes() == b"w" * 3_000_000
    assert weights.stat().st_mode & 0o777 == 0o444
    assert done["bytes"] == 3_000_002
    assert [path.name for path in (tmp_path / "opt").iterdir()] == [done["path"][-64:]]


def test_damaged_model_is_pulled_again(run: Run, model: Options) -> None:
    folder = Path(run("tresor_model", model)["path"])
    (folder / "config.json").unlink()
    assert run("tresor_model", model)["changed"]
    (folder / "extra.py").write_text("")
    assert run("tresor_model", model)["changed"]
    assert not (folder / "extra.py").exists()


def flipped(store: FakeStore, options: Options) -> None:
    store.files["model-tiny/config.json"] = b"[]"


def longer(store: FakeStore, options: Options) -> None:
    store.files["model-tiny/config.json"] = b"{}{}"


def gone(store: FakeStore, options: Options) -> None:
    del store.files["model-tiny/config.json"]


def other_list(store: FakeStore, options: Options) -> None:
    options["files"] = [{"path": "a", "size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}]


def path_outside(store: FakeStore, options: Options) -> None:
    options["files"] = [{"path": "../a", "size": 1, "sha256": "0" * 64}]


def bad_digest(store: FakeStore, options: Options) -> None:
    options["digest"] = "latest"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (flipped, "store.digest"),
        (longer, "store.size"),
        (gone, "store.answer"),
        (other_list, "model.digest"),
        (path_outside, "model.path"),
        (bad_digest, "model.digest"),
    ],
)
def test_wrong_model_is_refused_and_leaves_nothing(
    run: Run, model: Options, store: FakeStore, tmp_path: Path, *, change: object, rule: str
) -> None:
    change(store, model)  # type: ignore[operator]
    result = run("tresor_model", model)
    assert result["failed"] and result["rule"] == rule
    assert not list((tmp_path / "opt").rglob("*"))


def test_model_is_removed(run: Run, model: Options) -> None:
    folder = Path(run("tresor_model", model)["path"])
    absent = {**model, "state": "absent"}
    assert run("tresor_model", absent)["changed"]
    assert not folder.exists()
    assert not run("tresor_model", absent)["changed"]


def test_store_of_another_authority_is_refused(run: Run, model: Options, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    result = run("tresor_model", {**model, "ca_cert": str(other.path)})
    assert result["rule"] == "store.tls"


def test_client_of_another_authority_gets_nothing(
    run: Run, model: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tresor.store_client.client.ATTEMPTS", 1)
    certificate, key = Authority(tmp_path / "other").issue("host")
    result = run("tresor_model", {**model, "client_cert": str(certificate), "client_key": str(key)})
    assert result["rule"] == "store.unreachable"


def test_plain_http_is_refused(run: Run, model: Options) -> None:
    result = run("tresor_model", {**model, "store_url": "http://localhost:1"})
    assert result["rule"] == "store.url"


def test_both_modules_take_the_same_connection() -> None:
    from tresor.store_client.options import connection_spec

    for name in ("tresor_environment", "tresor_model"):
        assert connection_spec().items() <= load(name).argument_spec().items()
        text = load(name).DOCUMENTATION
        assert "tresor_store" in text and "client_key:" not in text
