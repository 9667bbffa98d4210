"""The table of vLLM's names comes from wheels, and what a site may set is in it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from docs.tools import vllm_names as tool
from tresor.catalogue import vllm_names as table
from tresor.inventory import vllm_arguments as arguments

ROOT = Path(__file__).parents[3]
FILES = {
    "vllm/tool_parsers/__init__.py": (
        '_TOOL_PARSERS_TO_REGISTER = {"hermes": ("a", "B"), "%s": ("c", "D")}'
    ),
    "vllm/reasoning/__init__.py": '_REASONING_PARSERS_TO_REGISTER = {"qwen3": ("a", "B")}',
    "vllm/model_executor/layers/quantization/__init__.py": 'QuantizationMethods = Literal["fp8"]',
    "vllm/config/model.py": 'TokenizerMode = Literal["auto", "hf"]',
    "vllm/config/speculative.py": (
        'Heads = Literal["mtp"]\nSpeculativeMethod = Literal["ngram", Heads]'
    ),
    "vllm/config/lora.py": "MaxLoRARanks = Literal[1, 8]",
    "vllm/engine/arg_utils.py": (
        "class EngineArgs:\n    model: str = ''\n    _own: int = 0\n"
        "class AsyncEngineArgs(EngineArgs):\n    enable_log_requests: bool = False\n"
    ),
    "vllm/entrypoints/common/cli_args.py": (
        "class BaseFrontendArgs:\n    lora_modules: list\nclass FrontendArgs:\n    host: str = ''\n"
    ),
}


def wheel(folder: Path, version: str, parser: str, without: str = "") -> Path:
    path = folder / f"vllm-{version}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            if name != without:
                archive.writestr(name, text % parser if "%s" in text else text)
        archive.writestr(f"vllm-{version}.dist-info/METADATA", f"Version: {version}\n")
    return path


def test_name_that_one_version_lacks_is_left_out(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path, "1.0.0", "old"), wheel(tmp_path, "1.1.0", "new")]
    target = tmp_path / "names.py"

    assert tool.main([*map(str, wheels), "--check"], target) == 1
    assert tool.main([*map(str, wheels)], target) == 0
    assert tool.main([*map(str, wheels), "--check"], target) == 0
    space: dict[str, Any] = {}
    exec(target.read_text(encoding="utf-8"), space)  # noqa: S102 - made a line above
    assert space["TOOL_PARSERS"] == {"hermes"}
    assert space["SPECULATIVE_METHODS"] == {"ngram", "mtp"}
    assert space["LORA_RANKS"] == {1, 8}
    assert space["OPTIONS"] == {"model", "enable_log_requests", "lora_modules", "host"}
    assert set(space["SOURCES"]) == {"1.0.0", "1.1.0"}


def test_wheel_that_lacks_a_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = wheel(tmp_path, "1.0.0", "x", without="vllm/config/lora.py")

    assert tool.main([str(broken)], tmp_path / "names.py") == 2
    assert "has none of vllm/config/lora.py" in capsys.readouterr().err


def test_table_was_read_from_the_locked_wheels() -> None:
    locked: dict[str, str] = {}
    for name in ("wheels-vllm-cpu", "wheels-vllm-cuda"):
        text = (ROOT / f"bundle/lock/{name}.json").read_text(encoding="utf-8")
        locked |= {one["version"]: one["sha256"] for one in _packages(json.loads(text))}

    assert locked == table.SOURCES


def _packages(value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        if value.get("name") in ("vllm", "vllm-cpu") and "sha256" in value:
            return [value]
        return [one for part in value.values() for one in _packages(part)]
    if isinstance(value, list):
        return [one for part in value for one in _packages(part)]
    return []


def test_option_that_a_site_may_set_exists_in_vllm() -> None:
    assert set(arguments.ARGUMENTS) <= table.OPTIONS


def test_ranks_of_the_role_are_those_of_vllm() -> None:
    import yaml

    values = yaml.safe_load((ROOT / "roles/vllm/vars/main.yml").read_text(encoding="utf-8"))

    assert set(values["__vllm_lora_ranks"]) == table.LORA_RANKS
