"""fs-verity on a real kernel: sealed by our code, refused by the kernel, noticed by our checks.

Root, QEMU and Debian's packages: ``make test-fs-verity``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.bundle.complete import Complete
from python_plugins.tests.bundle.conftest import ssh_keys, vendored_wheels
from python_plugins.tests.bundle.helpers import safetensors
from python_plugins.tests.fs_verity import emulator
from python_plugins.tests.policy.bench import Bench
from tresor.bundle import pyz
from tresor.bundle.signing import create_lab_keys

__all__ = ["ssh_keys", "vendored_wheels"]

Found = dict[str, Any]
HERE = Path(__file__).parent
SCRIPT = HERE.parents[2] / "roles" / "vllm" / "files" / "verify_model.py"
NOW = "2026-11-25T12:00:00"
ANYWHERE = {"site": "*", "arch": ["*"], "os": ["*"]}
EIO, SIGBUS = "EIO", -7


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """Of all tests these do fetch packages."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.fail("QEMU is not installed: make test-fs-verity installs it")


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
    ssh_keys: dict[str, Path],
    vendored_wheels: list[Path],
) -> Iterator[Found]:
    """Boot once; return what the machine found."""
    folder = tmp_path_factory.mktemp("machine")
    payload = folder / "payload"
    payload.mkdir()
    pyz.build(payload / "importer.pyz", vendored_wheels)
    shutil.copyfile(SCRIPT, payload / "verify_model.py")
    (payload / "people").mkdir()
    signers = payload / "allowed_signers"
    for person, key in ssh_keys.items():
        shutil.copy(key, payload / "people" / person)
        public = key.with_suffix(".pub").read_text()
        with signers.open("a") as stream:
            stream.write(f'{person} namespaces="tresor-approve" {public}')
    signers.chmod(0o644)
    bundle(folder, payload)
    root = emulator.unpack(folder)
    machine = emulator.machine(folder, root, payload, HERE / "guest.py")
    disks = [
        emulator.disk(folder / "verity.img", verity=True),
        emulator.disk(folder / "plain.img", verity=False),
    ]
    answer = emulator.boot(machine, disks, NOW)
    print(f"\nkernel {machine.release}: {answer}")
    assert "error" not in answer, answer["error"]
    yield answer
    shutil.rmtree(folder)


def bundle(folder: Path, payload: Path) -> None:
    """Make the small complete bundle, with weights that are copied past the page cache."""
    keys = folder / "keys"
    maker = Complete(folder / "medium", keys, create_lab_keys(keys), bench=Bench(folder / "bench"))
    kind, files = maker.bench.parts["model-tiny"]
    weights = safetensors(bytes(range(256)) * 16 * 1024)
    maker.bench.parts["model-tiny"] = (kind, {**files, "model.safetensors": weights})
    maker.make(audience=ANYWHERE)
    shutil.copytree(maker.bundle, payload / "bundle")
    (payload / "fingerprint").write_text(maker.fingerprint)


@pytest.mark.parametrize("where", ["verity", "plain"])
def test_import_and_release_work_on_both(found: Found, where: str) -> None:
    store = found[where]["store"]
    assert store["import"]["state"] == "AWAIT_APPROVAL"
    assert store["activate"]["state"] == "ACTIVE"
    assert store["scrub_before"] == {"status": 0, "ok": True, "findings": []}


def test_every_content_is_sealed_with_the_digest_that_another_program_computes(
    found: Found,
) -> None:
    store = found["verity"]["store"]
    assert store["blobs"] > 10
    assert store["measured"] == store["computed"] == store["asked"] == store["blobs"]
    assert store["sealed_events"] == [store["blobs"]]


def test_kernel_refuses_writing_even_to_root(found: Found) -> None:
    assert (found["verity"]["store"]["write"], found["verity"]["store"]["truncate"]) == (
        "EPERM",
        "EPERM",
    )


def test_byte_changed_on_the_disk_cannot_be_read(found: Found) -> None:
    store = found["verity"]["store"]
    assert store["read"] == EIO
    assert store["map"] == SIGBUS


@pytest.mark.parametrize("where", ["verity", "plain"])
def test_scrub_sees_the_disk_and_the_medium_repairs(found: Found, where: str) -> None:
    store = found[where]["store"]
    assert store["scrub"]["status"] == 3
    assert any("model.safetensors" in item for item in store["scrub"]["findings"])
    assert store["scrub_events"] == "store.scrub.bad"
    assert (store["repair"]["status"], store["repair"]["changed"]) == (0, True)
    assert store["scrub_after"]["ok"]


def test_repaired_content_is_sealed_again(found: Found) -> None:
    assert found["verity"]["store"]["measured_after"]


def test_file_system_without_it_seals_nothing(found: Found) -> None:
    plain = found["plain"]
    assert plain["store"]["measured"] == plain["model"]["sealed"] == 0
    assert plain["store"]["sealed_events"] == []
    assert plain["store"]["write"] == plain["store"]["read"] == ""


def test_engine_does_not_start_with_changed_weights(found: Found) -> None:
    model = found["verity"]["model"]
    assert (model["sealed"], model["again"]) == (2, 2)
    assert model["first"]["status"] == 0
    assert model["read"] == EIO
    for case in ("zero_age", "no_record"):
        assert model[case]["status"] == 1
        assert "Input/output error" in model[case]["said"]


def test_sealed_weights_are_not_hashed_again_however_old_the_record(found: Found) -> None:
    verity, plain = found["verity"]["model"], found["plain"]["model"]
    assert verity["old"]["status"] == plain["old"]["status"] == 0
    assert not verity["old_hashed_again"]
    assert plain["old_hashed_again"]


def test_without_it_the_age_bounds_how_long_a_change_underneath_is_unseen(found: Found) -> None:
    plain = found["plain"]["model"]
    assert plain["inside_age"]["status"] == 0
    assert plain["read"] == ""
    for case in ("zero_age", "no_record"):
        assert plain[case]["status"] == 1
        assert "has SHA-256" in plain[case]["said"]


@pytest.mark.parametrize("where", ["verity", "plain"])
def test_another_sealed_file_in_its_place_is_refused(found: Found, where: str) -> None:
    replaced = found[where]["replaced"]
    assert replaced["first"]["status"] == 0
    assert replaced["second"]["status"] == 1
