"""The check before an engine's start: what was verified at import is what is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "vllm" / "files" / "verify_model.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


def verify(model: Path, listed: list[dict[str, Any]] | None = None) -> tuple[int, str]:
    manifest = model.parent / "manifest.json"
    if listed is not None or not manifest.exists():
        files = sorted(path for path in model.rglob("*") if path.is_file())
        entries = [
            {
                "path": str(path.relative_to(model)),
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        ]
        content = {"folder": str(model), "files": entries if listed is None else listed}
        manifest.write_text(json.dumps([content]))
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, manifest], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_unchanged_model_passes(model: Path) -> None:
    assert verify(model) == (0, "")


def test_flipped_bit_is_refused(model: Path) -> None:
    verify(model)
    weights = model / "model.safetensors"
    weights.write_bytes(b"Weights" + weights.read_bytes()[7:])
    code, said = verify(model)
    assert code == 1
    assert "model.safetensors has SHA-256" in said


def test_truncated_file_is_refused(model: Path) -> None:
    verify(model)
    (model / "model.safetensors").write_bytes(b"w")
    assert "has 1 bytes" in verify(model)[1]


def test_missing_file_is_refused(model: Path) -> None:
    verify(model)
    (model / "model.safetensors").unlink()
    assert verify(model)[0] == 1


def test_added_file_is_refused(model: Path) -> None:
    verify(model)
    (model / "modeling.py").write_text("import os")
    assert "modeling.py is not in the list" in verify(model)[1]


def test_link_is_refused_even_with_the_right_content(model: Path) -> None:
    verify(model)
    weights = model / "model.safetensors"
    weights.rename(model.parent / "elsewhere")
    weights.symlink_to(model.parent / "elsewhere")
    assert "no regular file" in verify(model)[1]


def test_linked_folder_is_refused(model: Path) -> None:
    verify(model)
    (model / "extra").symlink_to("/etc")
    assert "extra is not in the list" in verify(model)[1]


def test_empty_list_is_refused(model: Path) -> None:
    assert verify(model, listed=[])[0] == 1


def recorded(model: Path, max_age: str = "60") -> tuple[int, str]:
    """Run the check with a record beside the model."""
    record = model.parent / "verified.json"
    words = [sys.executable, "-I", SCRIPT, model.parent / "manifest.json", record, max_age]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def hashed_at(model: Path) -> list[float]:
    found = json.loads((model.parent / "verified.json").read_text())
    return [entry["hashed"] for _, entry in sorted(found.items())]


def test_recent_check_of_an_unchanged_file_is_believed_for_its_age(model: Path) -> None:
    verify(model)
    assert recorded(model) == (0, "")
    first = hashed_at(model)
    assert recorded(model) == (0, "") and hashed_at(model) == first
    assert recorded(model, "0") == (0, "") and hashed_at(model) != first


def test_changed_file_is_hashed_though_its_size_and_mtime_are_the_same(model: Path) -> None:
    verify(model)
    recorded(model)
    weights = model / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"Weights" + weights.read_bytes()[7:])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, said = recorded(model)
    assert code == 1 and "not as listed" in said


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_damaged_record_only_costs_time(model: Path, text: str) -> None:
    verify(model)
    (model.parent / "verified.json").write_text(text)
    assert recorded(model) == (0, "")
    assert len(hashed_at(model)) == 2


def test_record_from_the_future_is_not_believed(model: Path) -> None:
    verify(model)
    recorded(model)
    path = model.parent / "verified.json"
    found = json.loads(path.read_text())
    for entry in found.values():
        entry["hashed"] += 10_000
    path.write_text(json.dumps(found))
    assert recorded(model) == (0, "")
    assert max(hashed_at(model)) < min(entry["hashed"] for entry in found.values())


def test_refused_model_leaves_no_record(model: Path) -> None:
    verify(model)
    (model / "extra.py").write_text("")
    assert recorded(model)[0] == 1
    assert not (model.parent / "verified.json").exists()


def test_adapter_is_verified_like_the_model(model: Path, tmp_path: Path) -> None:
    verify(model)
    manifest = tmp_path / "manifest.json"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"low rank")
    entry = {
        "path": "adapter_model.safetensors",
        "size": 8,
        "sha256": hashlib.sha256(b"low rank").hexdigest(),
    }
    listed = json.loads(manifest.read_text())
    manifest.write_text(json.dumps([*listed, {"folder": str(adapter), "files": [entry]}]))
    assert verify(model) == (0, "")
    (adapter / "adapter_model.safetensors").write_bytes(b"low rang")

    code, said = verify(model)

    assert code == 1
    assert "adapter_model.safetensors has SHA-256" in said


def test_list_without_folders_is_refused(model: Path) -> None:
    (model.parent / "manifest.json").write_text("[]")

    code, said = verify(model)

    assert code == 1
    assert "names no folder" in said
