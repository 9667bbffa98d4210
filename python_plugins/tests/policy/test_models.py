"""What a model may not carry, each kind with several disguises."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.tests import makers
from python_plugins.tests.policy.bench import TEMPLATE, Bench, model, sha
from tresor.policy import gguf, safetensors
from tresor.policy.rules import Declarations
from tresor.policy.verdict import RefusalError

GOOD = makers.safetensors()
ZIP = makers.zip_of({"archive/data.pkl": b"cposix\nsystem\n"})


def check(raw: bytes, path: Path) -> tuple[str, ...]:
    path.write_bytes(raw)
    with path.open("rb") as stream:
        return safetensors.check(stream, len(raw), "model")


def tensors(text: str) -> bytes:
    return makers.safetensors(header=text.encode(), data=b"\0" * 8)


ONE = '"dtype":"U8","shape":[8],"data_offsets":[0,8]'
BAD_WEIGHTS = {
    "empty": b"",
    "only a length": struct.pack("<Q", 2),
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header of 2^62": struct.pack("<Q", 2**62) + b"{}",
    "header of 2^64-1": b"\xff" * 8 + b"{}",
    "no object": makers.safetensors(header=b"[]", data=b""),
    "leading space": makers.safetensors(header=b" {}", data=b""),
    "byte order mark": makers.safetensors(header=b"\xef\xbb\xbf{}", data=b""),
    "not UTF-8": makers.safetensors(header=b'{"\xff":1}', data=b""),
    "newline after the header": makers.safetensors(header=b"{}\n", data=b""),
    "null bytes after the header": makers.safetensors(header=b"{}\0\0", data=b""),
    "two headers": makers.safetensors(header=b"{}{}", data=b""),
    "name twice": tensors("{" + f'"a":{{{ONE}}},"a":{{{ONE}}}' + "}"),
    "key twice": tensors('{"a":{"dtype":"U8",' + ONE + "}}"),
    "more keys": tensors('{"a":{"x":1,' + ONE + "}}"),
    "tail": GOOD + b"x",
    "tail that is a zip": GOOD + ZIP,
    "cut off": GOOD[:-1],
    "overlap": tensors(
        '{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},'
        '"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}'
    ),
    "gap": tensors('{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}'),
    "same place twice": tensors("{" + f'"a":{{{ONE}}},"b":{{{ONE}}}' + "}"),
    "backwards": tensors('{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}'),
    "negative offset": tensors('{"a":{"dtype":"U8","shape":[16],"data_offsets":[-8,8]}}'),
    "negative shape": tensors('{"a":{"dtype":"U8","shape":[-2,-4],"data_offsets":[0,8]}}'),
    "shape overflows 64 bits": tensors(
        '{"a":{"dtype":"U8","shape":[4294967296,4294967296,8],"data_offsets":[0,8]}}'
    ),
    "zero hides a huge shape": tensors(
        '{"a":{"dtype":"U8","shape":[9223372036854775807,0],"data_offsets":[0,0]}}'
    ),
    "shape does not fit": tensors('{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,8]}}'),
    "shape is a float": tensors('{"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}}'),
    "shape is true": tensors('{"a":{"dtype":"F64","shape":[true],"data_offsets":[0,8]}}'),
    "unknown dtype": tensors('{"a":{"dtype":"object","shape":[8],"data_offsets":[0,8]}}'),
    "dtype is a list": tensors('{"a":{"dtype":["U8"],"shape":[8],"data_offsets":[0,8]}}'),
    "three offsets": tensors('{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}}'),
    "metadata is a list": tensors('{"__metadata__":[],"a":{' + ONE + "}}"),
    "metadata holds a number": tensors('{"__metadata__":{"n":1},"a":{' + ONE + "}}"),
    "NaN": tensors('{"__metadata__":{"n":NaN},"a":{' + ONE + "}}"),
    "deep": makers.safetensors(header=b'{"a":' + b"[" * 200_000, data=b""),
    "integer of a million digits": makers.safetensors(
        header=b'{"a":' + b"9" * 1_000_000 + b"}", data=b""
    ),
    "pickle": b"\x80\x04\x95\x0a" + b"\0" * 60,
    "torch zip": ZIP,
    "gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 64,
    "numpy": b"\x93NUMPY\x01\x00" + b"\0" * 64,
    "elf": b"\x7fELF" + b"\0" * 64,
    "zip inside the last tensor": makers.safetensors(
        {"w": ("U8", [len(ZIP) + 64], b"\0" * 64 + ZIP)}
    ),
    "zip that begins at the file": makers.safetensors({"w": ("U8", [len(ZIP)], ZIP)}),
}


@pytest.mark.parametrize("name", sorted(BAD_WEIGHTS))
def test_malformed_weights_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusalError) as caught:
        check(BAD_WEIGHTS[name], tmp_path / "w")
    assert caught.value.rule == "models.safetensors"


def test_real_forms_of_weights_are_accepted(tmp_path: Path) -> None:
    padded = json.dumps({"__metadata__": {"format": "pt"}}).encode().ljust(64)
    assert check(makers.safetensors(header=padded, data=b""), tmp_path / "a") == ()
    several = makers.safetensors(
        {
            "a": ("BF16", [2, 3], b"\1" * 12),
            "empty": ("F32", [0, 4], b""),
            "scalar": ("F64", [], b"\2" * 8),
            "f4": ("F4", [3, 2], b"\3" * 3),
        }
    )
    assert check(several, tmp_path / "b") == ("a", "empty", "scalar", "f4")


def test_weights_themselves_are_not_read(tmp_path: Path) -> None:
    """Of a file of 64 GiB (mostly a hole) only the header and the last bytes are read."""
    size = 64 * 2**30
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "big"
    with path.open("wb") as sink:
        sink.write(struct.pack("<Q", len(header)) + header)
        sink.truncate(8 + len(header) + size)

    class Counting:
        def __init__(self) -> None:
            self.stream = path.open("rb")
            self.count = 0

        def read(self, length: int) -> bytes:
            raw = self.stream.read(length)
            self.count += len(raw)
            return raw

        def __getattr__(self, name: str) -> object:
            return getattr(self.stream, name)

    stream = Counting()
    assert safetensors.check(stream, 8 + len(header) + size, "big") == ("w",)  # type: ignore[arg-type]
    stream.stream.close()
    assert stream.count < 100_000


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_of_the_header_never_crashes(position: int, change: int) -> None:
    import io

    raw = bytearray(GOOD)
    raw[position] ^= change
    try:
        safetensors.check(io.BytesIO(bytes(raw)), len(raw), "x")
    except RefusalError as error:
        assert error.rule == "models.safetensors"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_refused(raw: bytes) -> None:
    import io

    for module in (safetensors, gguf):
        with pytest.raises(RefusalError):
            module.check(io.BytesIO(raw), len(raw), "x")


@pytest.mark.parametrize(
    "path",
    [
        "modeling_tiny.py", "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt",
        "model.pkl", "training_args.bin", "model.h5", "model.onnx", "model.gguf", "model.npz",
        "flax_model.msgpack", "tokenizer.py", "setup.sh", "Configuration.json", "config.json.py",
        "sub/model.safetensors", "custom_generate/generate.py", "requirements.txt", "a.so",
        "model.safetensors.py", "optimizer.json", "adapter_model.bin",
    ],
)  # fmt: skip
def test_other_files_are_refused(bench: Bench, path: str) -> None:
    bench.parts["model-tiny"] = ("model", model(**{path.replace(".", "__"): b"{}"}))
    assert "models.file" in bench.refused()


CODE = {
    "top": {"auto_map": {"AutoModel": "modeling.Model"}},
    "nested": {"vision_config": {"auto_map": {"AutoModel": "modeling.Model"}}},
    "deep in lists": {"a": [[{"b": [{"auto_map": {"x": "y"}}]}]]},
    "empty table": {"auto_map": {}},
    "text": {"auto_map": "evil/repo--modeling.Model"},
    "other case": {"Auto_Map": {"AutoModel": "m.M"}},
    "remote class as a value": {"architectures": ["evil/repo--modeling.Model"]},
    "remote class without an owner": {"x": "repo--modeling.Model"},
    "trust": {"trust_remote_code": True},
    "trust nested": {"text_config": {"trust_remote_code": True}},
    "pipelines": {"custom_pipelines": {"x": {"impl": "pipeline.P"}}},
    "generate": {"custom_generate": "evil/repo"},
    "in the base of an adapter": {"base_model": {"config": {"auto_map": {"AutoModel": "m.M"}}}},
    "in a list of an adapter": {"modules": [{"x": {"auto_map": ["m.M", None]}}]},
    "adapter": {"auto_mapping": {"base_model_class": "M", "parent_library": "os"}},
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "adapter_config.json"])
@pytest.mark.parametrize("name", sorted(CODE))
def test_configuration_that_runs_code_is_refused(bench: Bench, name: str, file: str) -> None:
    raw = json.dumps(CODE[name]).encode()
    bench.parts["model-tiny"] = ("model", model(**{file.replace(".", "__"): raw}))
    assert bench.refused() == ["models.code"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"x":{"auto_map":null,"auto_map":{"a":"b"}}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b"{",
        b"\xff",
        b"",
        b"[" * 100_000,
        b'{"auto_\\u006dap":{"a":"m.M"}}',
    ],
)
def test_ambiguous_configuration_is_refused(bench: Bench, raw: bytes) -> None:
    bench.parts["model-tiny"] = ("model", model(config__json=raw))
    assert bench.refused()[0] in ("models.json", "models.code")


def test_harmless_configuration_is_accepted(bench: Bench) -> None:
    config = {"auto_map": None, "trust_remote_code": False, "rope_theta": 1e6, "x": "a-b.c"}
    adapter = {"auto_mapping": None, "peft_type": "LORA", "r": 16}
    bench.parts["model-tiny"] = (
        "model",
        model(
            config__json=json.dumps(config).encode(),
            adapter_config__json=json.dumps(adapter).encode(),
        ),
    )
    assert bench.refused() == []


@pytest.mark.parametrize("kind", ["os.path", "builtins.eval", "custom_st.Module", None, 3])
def test_module_of_another_package_is_refused(bench: Bench, kind: object) -> None:
    raw = json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]).encode()
    bench.parts["model-tiny"] = ("model", model(modules__json=raw))
    assert bench.refused() == ["models.code"]


def test_model_without_weights_is_refused(bench: Bench) -> None:
    bench.parts["model-tiny"] = ("model", model(model__safetensors=None))
    assert bench.refused() == ["models.weights"]


@pytest.mark.parametrize(
    "table",
    [
        {"w": "other.safetensors"},
        {"absent": "model.safetensors"},
        {"w": "../model-x/model.safetensors"},
        {"w": 3},
        {"w": ["model.safetensors"]},
    ],
)
def test_index_must_name_what_is_there(bench: Bench, table: object) -> None:
    raw = json.dumps({"weight_map": table}).encode()
    bench.parts["model-tiny"] = ("model", model(model__safetensors__index__json=raw))
    assert bench.refused() == ["models.index"]


def test_shards_with_their_index_are_accepted(bench: Bench) -> None:
    files = model(model__safetensors=None)
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        files[name] = makers.safetensors({f"w{number}": ("U8", [1], b"x")})
    table = {f"w{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    bench.parts["model-tiny"] = ("model", files)
    assert bench.refused() == []
    files["model-00003-of-00002.safetensors"] = makers.safetensors()
    assert bench.refused() == ["models.index"]


def test_template_that_is_not_pinned_is_refused(bench: Bench) -> None:
    bench.parts["model-tiny"] = ("model", model(chat_template__jinja=b"{{ messages }}"))
    assert bench.refused() == ["models.template"]


Spoil = Callable[[Bench], None]


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.json"])
@pytest.mark.parametrize(
    "value",
    [
        "{{ messages }}",
        [{"name": "tool_use", "template": "{{ messages }}"}],
        {"default": "{{ messages }}"},
        [{"name": "x"}],
        7,
    ],
)
def test_second_template_in_another_place_is_refused(
    bench: Bench, place: str, value: object
) -> None:
    raw = json.dumps({"chat_template": value}).encode()
    bench.parts["model-tiny"] = ("model", model(**{place.replace(".", "__"): raw}))
    assert bench.refused() == ["models.template"]


def test_second_template_is_accepted_when_reviewed(bench: Bench) -> None:
    more = "{{ messages }}"
    raw = json.dumps({"chat_template": [{"name": "a", "template": more}]}).encode()
    bench.parts["model-tiny"] = ("model", model(tokenizer_config__json=raw))
    allow = {("models.template", "tiny"): frozenset({sha(more.encode())})}
    bench.declared = Declarations(allow=allow)
    assert bench.refused() == []
    bench.declared = Declarations(allow={("models.template", "other"): allow.popitem()[1]})
    assert bench.refused() == ["models.template"]


def test_pinned_template_must_be_there(bench: Bench) -> None:
    bench.parts["model-tiny"] = ("model", model(chat_template__jinja=None))
    assert bench.refused() == ["models.template"]
    assert TEMPLATE


def gguf_file(*, tail: bytes = b"", offset: int = 0, kind: int = 0, template: str = "") -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [text("general.alignment") + struct.pack("<II", 4, 32)]
    if template:
        pairs.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    head += text("w") + struct.pack("<IQIQ", 1, 8, kind, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32 + tail


def test_gguf_needs_the_sites_word(bench: Bench) -> None:
    bench.parts["model-tiny"] = ("model", model(model__gguf=gguf_file(template=TEMPLATE)))
    assert bench.refused() == ["models.file"]
    bench.rules = replace(bench.rules, model_formats=frozenset({"safetensors", "gguf"}))
    assert bench.refused() == []
    bench.parts["model-tiny"] = ("model", model(model__gguf=gguf_file(template="{{ evil }}")))
    assert bench.refused() == ["models.template"]


@pytest.mark.parametrize(
    "raw",
    [
        gguf_file(tail=b"\0" * 32),
        gguf_file(tail=ZIP),
        gguf_file(offset=32),
        gguf_file(kind=99),
        gguf_file()[:-1],
        gguf_file()[:40],
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62),
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0) + b"\0" * 64,
    ],
)
def test_malformed_gguf_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "g"
    path.write_bytes(raw)
    with path.open("rb") as stream, pytest.raises(RefusalError) as caught:
        gguf.check(stream, len(raw), "g")
    assert caught.value.rule == "models.gguf"
