"""Model directories: sizes from safetensors headers, hostile files refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tresor.sizing.errors import ModelError
from tresor.sizing.model import describe, safetensors

from .helpers import config, header, tensors, write_model, write_shard


def test_directory_gives_the_same_shape_as_its_config(tmp_path: Path) -> None:
    shape = describe(write_model(tmp_path / "model"))
    assert shape.bytes_by_kind == describe(config()).bytes_by_kind
    assert shape.checkpoint_bytes == sum(size for _, _, size in tensors().values())


def test_path_may_be_a_text(tmp_path: Path) -> None:
    assert describe(str(write_model(tmp_path / "model"))).num_layers == 4


def test_headers_count_where_the_config_does_not_say_the_format(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    content = tensors()
    for name, (_, shape, size) in content.items():
        if ".mlp." in name:
            content[name] = ("F8_E4M3", shape, size // 2)
    write_shard(directory / "model.safetensors", content)
    with_config = describe(config()).bytes_by_kind["mlp"]
    assert describe(directory).bytes_by_kind["mlp"] == pytest.approx(with_config / 2)


def test_float32_checkpoint_counts_as_loaded_in_16_bit(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    write_shard(directory / "model.safetensors", tensors("F32", 4))
    assert describe(directory).bytes_by_kind == describe(config()).bytes_by_kind


def test_layers_for_multi_token_prediction_are_not_loaded(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    content = tensors()
    content["model.layers.4.mlp.up_proj.weight"] = ("BF16", [512, 256], 512 * 256 * 2)
    write_shard(directory / "model.safetensors", content)
    assert describe(directory).bytes_by_kind == describe(config()).bytes_by_kind


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model", intermediate_size=4096)
    with pytest.raises(ModelError, match="one of them is of another model"):
        describe(directory)


def test_modelopt_file_beside_the_config_is_read(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    quant = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (directory / "hf_quant_config.json").write_text(json.dumps(quant))
    assert describe(directory).quantization.name == "fp8"


def test_directory_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        describe(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000])
def test_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError):
        describe(tmp_path)


def write_index(directory: Path, weight_map: Any) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_index_that_names_a_missing_shard_is_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    write_index(directory, {"a": "model.safetensors", "b": "model-2.safetensors"})
    with pytest.raises(ModelError, match=r"names the shard model-2\.safetensors, which is missing"):
        describe(directory)


@pytest.mark.parametrize(
    "weight_map",
    [None, {}, [], {"a": "../model.safetensors"}, {"a": "/etc/passwd"}, {"a": 3}, {"a": "x.bin"}],
)
def test_index_with_another_content_is_refused(tmp_path: Path, weight_map: Any) -> None:
    directory = write_model(tmp_path / "model")
    write_index(directory, weight_map)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        describe(directory)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"\x00" * 4, "too short"),
        ((1 << 63).to_bytes(8, "little"), "says its header has"),
        ((200_000_000).to_bytes(8, "little") + b"{}", "at most"),
        ((4096).to_bytes(8, "little") + b"{}", "truncated"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((2).to_bytes(8, "little") + b"{x", "not valid JSON"),
        (header({"a": 1}) + bytes(8), "expected an object"),
        (header({"a": entry(dtype="F3")}) + bytes(8), "dtype 'F3'"),
        (header({"a": entry(shape=[-2])}) + bytes(8), "shape"),
        (header({"a": entry(shape="2")}) + bytes(8), "shape"),
        (header({"a": entry(shape=[1 << 40, 1 << 40])}) + bytes(8), "and 8 bytes"),
        (header({"a": entry(data_offsets=[8, 0])}) + bytes(8), "data_offsets"),
        (header({"a": entry(data_offsets=[0])}) + bytes(8), "data_offsets"),
        (header({"a": entry(data_offsets=[0, 4])}) + bytes(8), "and 4 bytes"),
        (header({"a": entry(data_offsets=[4, 12])}) + bytes(12), "leaves a gap"),
        (header({"a": entry(), "b": entry(data_offsets=[4, 12])}) + bytes(12), "overlaps"),
        (header({"a": entry()}) + bytes(4), "truncated"),
        (header({"a": entry()}) + bytes(12), "added to"),
    ],
)
def test_hostile_header_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        safetensors.read_header(path)


def test_names_from_a_header_do_not_flood_the_message(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"x" * 100_000: entry(dtype="F3")}) + bytes(8))
    with pytest.raises(ModelError) as raised:
        safetensors.read_header(path)
    assert len(str(raised.value)) < 1000


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    write_shard(directory / "other.safetensors", {"lm_head.weight": tensors()["lm_head.weight"]})
    with pytest.raises(ModelError, match="is in two files"):
        describe(directory)
