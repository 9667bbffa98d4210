"""What the stage counts as a delta, without a lab."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from stages import delta
from stages.shell import StageError
from tresor.policy import safetensors


def carried(folder: Path, beside: int, *contents: bytes) -> Path:
    """Return a medium with contents, and so many bytes beside them."""
    for raw in contents:
        digest = hashlib.sha256(raw).hexdigest()
        path = folder / "blobs" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    (folder / "bundle.json").write_bytes(b"x" * beside)
    return folder


def inventory(folder: Path, *contents: bytes) -> Path:
    held = [hashlib.sha256(raw).hexdigest() for raw in contents]
    (folder / "inventory.json").write_text(json.dumps({"blobs": held}))
    return folder


def test_figures_of_a_small_delta(tmp_path: Path) -> None:
    medium = carried(tmp_path / "bundle", 10, b"n" * 10_000)
    figures = delta.measure(medium, inventory(tmp_path, b"old"))
    assert (figures["delta_bytes"], figures["new_bytes"]) == (10_010, 10_000)
    assert figures["delta_x_new"] == 1.001


def test_delta_that_carries_more_is_a_failure(tmp_path: Path) -> None:
    medium = carried(tmp_path / "bundle", 11, b"n" * 10_000)
    with pytest.raises(StageError, match=r"at most 1\.001"):
        delta.measure(medium, inventory(tmp_path, b"old"))
    held = inventory(tmp_path, b"n" * 10_000)
    with pytest.raises(StageError, match="1 contents that the site has"):
        delta.measure(medium, held)


@pytest.mark.parametrize(
    ("status", "said"), [(0, '{"rule": "fit.base"}'), (3, '{"rule": "fit.site"}'), (3, "boom")]
)
def test_refusal_for_another_reason_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], status, said, "")

    monkeypatch.setattr(delta, "run", lambda *_, **__: None)
    monkeypatch.setattr("stages.delta.subprocess.run", run)
    with pytest.raises(StageError, match=r"expected fit\.base"):
        delta.refused(tmp_path / "old-base" / "medium" / "bundle", "fit.base")


def test_adapter_passes_the_gates_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "ADAPTER_BYTES", 2 * delta._CHUNK)
    monkeypatch.setattr("stages.delta.os.urandom", bytes)
    delta.adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    with path.open("rb") as stream:
        assert safetensors.check(stream, path.stat().st_size, "x") == ("lora_A.weight",)
