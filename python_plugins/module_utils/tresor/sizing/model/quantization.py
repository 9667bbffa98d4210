"""How a checkpoint is quantized: which format each of its modules has.

Reads the `quantization_config` of a Hugging Face config (or `hf_quant_config.json` of ModelOpt),
or a name such as `fp8` or `awq_int4`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError, listed, shown
from . import formats
from .formats import Format

# Modules that checkpoints of a named quantization leave alone, whatever the format.
_KEPT = ("lm_head", "re:.*(vision|visual|multi_modal|mm_|merger).*", "re:.*\\.(gate|router)$")
_EXPERTS_ONLY = "re:^(?!.*\\.experts\\.).*$"

# name -> (format, kept modules besides _KEPT)
_NAMED: Mapping[str, tuple[Format, tuple[str, ...]]] = {
    "fp8": (formats.FP8_TENSOR, ()),
    "fp8_static": (formats.FP8_TENSOR, ()),
    "fp8_dynamic": (formats.FP8_CHANNEL, ()),
    "fp8_block": (formats.FP8_BLOCK, ()),
    "fbgemm_fp8": (formats.FP8_CHANNEL, ("re:.*self_attn.*",)),
    "mxfp8": (formats.MXFP8, ()),
    "int8_w8a8": (formats.INT8, ()),
    "int8": (formats.INT8, ()),
    "int8_w8a16": (formats.INT8_WEIGHT, ()),
    "awq_int4": (formats.AWQ, ()),
    "awq": (formats.AWQ, ()),
    "gptq_int4": (formats.GPTQ, ()),
    "gptq": (formats.GPTQ, ()),
    "gptq_int8": (formats.GPTQ8, ()),
    "int4_w4a16": (formats.GPTQ, ()),
    "w4a16": (formats.GPTQ, ()),
    "int4": (formats.GPTQ, ()),
    "int4_experts_w4a16": (formats.with_group(formats.GPTQ, 32), (_EXPERTS_ONLY,)),
    "nvfp4": (formats.NVFP4, ()),
    "nvfp4_experts": (formats.NVFP4, (_EXPERTS_ONLY,)),
    "mxfp4": (formats.MXFP4, (_EXPERTS_ONLY,)),
    "bitsandbytes": (formats.BITSANDBYTES, ()),
    "bitsandbytes_nf4": (formats.BITSANDBYTES, ()),
    "bitsandbytes_int8": (formats.BITSANDBYTES8, ()),
}
DTYPES: Mapping[str, int] = {
    "bf16": 16,
    "bfloat16": 16,
    "fp16": 16,
    "float16": 16,
    "half": 16,
    "fp32": 32,
    "float32": 32,
    "float": 32,
}


@dataclass(frozen=True)
class Rule:
    """Modules that match one of `patterns` have `format` (None: the model's own dtype)."""

    patterns: tuple[str, ...]
    format: Format | None


@dataclass(frozen=True)
class Quantization:
    """The quantization of a checkpoint; the first matching rule gives a module's format.

    `fp8_cache` says that the checkpoint asks for an fp8 KV cache, which the engine's `auto` obeys.
    """

    name: str
    default: Format | None = None
    rules: tuple[Rule, ...] = ()
    fp8_cache: bool = False

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats in use, the default first."""
        found = [self.default, *(rule.format for rule in self.rules)]
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def format_of(self, names: Sequence[str]) -> Format | None:
        """Return the format of a module that is known under `names`, None for the model's dtype.

        A layer is known under several names (with and without the prefix of a vision-language
        model, fused and unfused); an exclude list may use any of them.
        """
        for rule in self.rules:
            if any(matches(pattern, name) for pattern in rule.patterns for name in names):
                return rule.format
        return self.default


UNQUANTIZED = Quantization("bf16")


def matches(pattern: str, name: str) -> bool:
    """Tell whether an exclude pattern names a module.

    `re:` patterns are searched from the start, `*` is a wildcard, anything else is a whole dotted
    part of the name: `mlp` covers `model.layers.0.mlp.up_proj`, `lm` does not cover `lm_head`.
    """
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    if "*" in pattern or "?" in pattern:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, pattern + ".*")
    return f".{pattern.strip('.')}." in f".{name}."


def named(name: str) -> tuple[Quantization, int | None]:
    """Return the quantization of that name, and the bits of the dtype if it is one."""
    key = name.strip().lower().replace("-", "_")
    if key in DTYPES:
        return Quantization(key), DTYPES[key]
    if key not in _NAMED:
        raise ModelError(
            f"quantization {shown(name)} is not known; "
            f"use one of: {listed(sorted({*_NAMED, 'bf16', 'fp16', 'fp32'}), 40)}"
        )
    weight_format, kept = _NAMED[key]
    return Quantization(key, weight_format, (Rule((*_KEPT, *kept), None),)), None


def from_config(config: Mapping[str, Any]) -> Quantization:
    """Read the `quantization_config` of a checkpoint.

    Raises `ModelError` for a method that is not known or fields that contradict each other.
    """
    method = config.get("quant_method") or config.get("quant_algo")
    if not isinstance(method, str):
        raise ModelError("quantization_config has no quant_method; it names the format, e.g. fp8")
    reader = _READERS.get(method.lower().replace("-", "_"))
    if reader is None:
        raise ModelError(
            f"quantization_config: quant_method {shown(method)} is not known; "
            f"known methods: {listed(sorted(_READERS), 20)}"
        )
    return reader(config)


def _patterns(config: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    found: list[str] = []
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ModelError(f"quantization_config: {key} must be a list of module names")
        found += value
    for pattern in found:
        if pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error as error:
                raise ModelError(
                    f"quantization_config: {shown(pattern)} is not a regular expression: {error}"
                ) from error
    return tuple(found)


def _integer(config: Mapping[str, Any], key: str, default: int, allowed: Sequence[int]) -> int:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ModelError(
            f"quantization_config: {key} is {shown(value)}; expected one of {list(allowed)}"
        )
    return value


_GROUPS = (-1, 16, 32, 64, 128, 256, 512, 1024)


def _kept(patterns: tuple[str, ...]) -> tuple[Rule, ...]:
    return (Rule((*patterns, *_KEPT), None),)


def _fp8(config: Mapping[str, Any]) -> Quantization:
    rules = _kept(_patterns(config, "ignored_layers", "modules_to_not_convert"))
    block = config.get("weight_block_size")
    if block is None:
        return Quantization("fp8", formats.FP8_TENSOR, rules)
    if block != [128, 128]:
        raise ModelError(
            f"quantization_config: weight_block_size is {shown(block)}; only [128, 128] is known"
        )
    return Quantization("fp8_block", formats.FP8_BLOCK, rules)


def _fbgemm(config: Mapping[str, Any]) -> Quantization:
    rules = _kept(_patterns(config, "modules_to_not_convert"))
    return Quantization("fbgemm_fp8", formats.FP8_CHANNEL, rules)


def _awq(config: Mapping[str, Any]) -> Quantization:
    _integer(config, "bits", config.get("w_bit", 4), (4,))
    group = _integer(config, "group_size", config.get("q_group_size", 128), _GROUPS)
    rules = _kept(_patterns(config, "modules_to_not_convert"))
    points = bool(config.get("zero_point", True))
    return Quantization(
        "awq_int4", formats.with_group(formats.AWQ, group, zero_points=points), rules
    )


def _gptq(config: Mapping[str, Any]) -> Quantization:
    bits = _integer(config, "bits", 4, (4, 8))
    group = _integer(config, "group_size", 128, _GROUPS)
    base = formats.GPTQ if bits == 4 else formats.GPTQ8
    points = not config.get("sym", True)
    rules = _kept(_patterns(config, "modules_in_block_to_quantize_not", "modules_to_not_convert"))
    return Quantization(
        f"gptq_int{bits}", formats.with_group(base, group, zero_points=points), rules
    )


def _mxfp4(config: Mapping[str, Any]) -> Quantization:
    kept = _patterns(config, "modules_to_not_convert")
    return Quantization("mxfp4", formats.MXFP4, _kept((*kept, _EXPERTS_ONLY)))


def _bitsandbytes(config: Mapping[str, Any]) -> Quantization:
    four, eight = bool(config.get("load_in_4bit")), bool(config.get("load_in_8bit"))
    if four == eight:
        raise ModelError("quantization_config: set exactly one of load_in_4bit and load_in_8bit")
    rules = _kept(_patterns(config, "llm_int8_skip_modules"))
    if four:
        return Quantization("bitsandbytes", formats.BITSANDBYTES, rules)
    return Quantization("bitsandbytes_int8", formats.BITSANDBYTES8, rules)


def _modelopt(config: Mapping[str, Any]) -> Quantization:
    inner = config.get("quantization")
    body = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    algorithm = str(body.get("quant_algo", body.get("quant_method", ""))).upper()
    rules = _kept(_patterns(body, "exclude_modules", "ignore"))
    known = {
        "FP8": ("fp8", formats.FP8_TENSOR),
        "FP8_PB_WO": ("fp8_block", formats.FP8_BLOCK),
        "FP8_PER_CHANNEL_PER_TOKEN": ("fp8_dynamic", formats.FP8_CHANNEL),
        "NVFP4": ("nvfp4", formats.NVFP4),
        "NVFP4_AWQ": ("nvfp4", formats.NVFP4),
        "MODELOPT_FP4": ("nvfp4", formats.NVFP4),
        "MXFP8": ("mxfp8", formats.MXFP8),
    }
    if algorithm == "MIXED_PRECISION":
        layers = body.get("quantized_layers")
        if not isinstance(layers, Mapping):
            raise ModelError("quantization_config: MIXED_PRECISION needs quantized_layers")
        mixed: list[Rule] = []
        for module, entry in layers.items():
            name = str(entry.get("quant_algo", "")).upper() if isinstance(entry, Mapping) else ""
            if name not in known:
                raise ModelError(f"quantization_config: {shown(module)} has format {shown(name)}")
            mixed.append(Rule((str(module),), known[name][1]))
        return Quantization("modelopt_mixed", None, (*rules, *mixed), _fp8_cache(body))
    if algorithm not in known:
        raise ModelError(f"quantization_config: ModelOpt format {shown(algorithm)} is not known")
    name, weight_format = known[algorithm]
    return Quantization(name, weight_format, rules, _fp8_cache(body))


def _fp8_cache(body: Mapping[str, Any]) -> bool:
    """Tell whether a ModelOpt checkpoint asks for an fp8 KV cache."""
    scheme = body.get("kv_cache_scheme") or body.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return (
            scheme.get("dynamic") is False
            and scheme.get("num_bits") == 8
            and scheme.get("type") == "float"
        )
    return isinstance(scheme, str) and scheme.lower().startswith("fp8")


def _compressed(config: Mapping[str, Any]) -> Quantization:
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ModelError("quantization_config: compressed-tensors needs config_groups")
    rules = [*_kept(_patterns(config, "ignore"))]
    default: Format | None = None
    names: list[str] = []
    for key, group in groups.items():
        if not isinstance(group, Mapping):
            raise ModelError(f"quantization_config: config_groups.{key} must be a mapping")
        weight_format = _compressed_format(str(key), group)
        names.append(weight_format.name)
        targets = _patterns(group, "targets")
        if "Linear" in targets or not targets:
            default = weight_format
        else:
            rules.append(Rule(targets, weight_format))
    return Quantization("+".join(dict.fromkeys(names)), default, tuple(rules))


def _compressed_format(key: str, group: Mapping[str, Any]) -> Format:
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        raise ModelError(f"quantization_config: config_groups.{key} has no weights")
    bits = _integer(weights, "num_bits", 8, (4, 8))
    kind, strategy = weights.get("type", "int"), weights.get("strategy", "tensor")
    size = weights.get("group_size") or 0
    activations = group.get("input_activations")
    if kind == "float" and bits == 8:
        by_strategy = {
            "block": formats.FP8_BLOCK,
            "channel": formats.FP8_CHANNEL,
            "tensor": formats.FP8_TENSOR,
            "group": formats.MXFP8,
        }
        if strategy in by_strategy:
            return by_strategy[strategy]
    if kind == "float" and bits == 4:
        return formats.MXFP4 if size == 32 else formats.NVFP4
    if kind == "int" and bits == 8:
        if activations is None:
            return formats.with_group(formats.GPTQ8, size) if size else formats.INT8_WEIGHT
        return formats.INT8
    if kind == "int" and bits == 4:
        points = not weights.get("symmetric", True)
        return formats.with_group(formats.GPTQ, size or -1, zero_points=points)
    raise ModelError(
        f"quantization_config: config_groups.{key} has {bits} bit {shown(kind)} weights "
        f"by {shown(strategy)}, which is not known"
    )


_READERS = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": _mxfp4,
    "gpt_oss_mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "nvfp4": _modelopt,
    "compressed_tensors": _compressed,
    "auto_round": _gptq,
}
