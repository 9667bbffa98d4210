"""Which files an engine's cache has; everything else is refused.

Folders and endings are those of vLLM 0.33, torch 2.14, Triton 3.8 and FlashInfer 0.7, read in their
sources: ``$VLLM_CACHE_ROOT`` with ``FLASHINFER_WORKSPACE_BASE=$VLLM_CACHE_ROOT/workspace``.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MAX_PATH_BYTES = 600
MAX_FILE_BYTES = 4 * 1024**3
_SEGMENT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9._+@=~-]*")
ROOTS = (
    "torch_compile_cache",
    "flashinfer_autotune_cache",
    "deep_gemm",
    "modelinfos",
    "workspace/.cache/flashinfer",
)
"""``startup_plan`` and ``gpu_p2p_access_cache_*`` tell of one host, so they stay there."""
_KERNELS = (".cubin", ".ptx", ".ttir", ".ttgir", ".llir", ".so", ".o")
_SOURCES = (".py", ".cu", ".cuh", ".cpp", ".h", ".hpp")
ENDINGS = frozenset([*_KERNELS, *_SOURCES, ".json", ".best_config", ".txt"])
_BUILD_ENDINGS = frozenset([".ninja", ".d"])


def is_leftover(path: str) -> bool:
    """Tell whether a file of a warmed cache is of no use elsewhere and is left out."""
    pure = PurePosixPath(path)
    if path.endswith(".lock") or path.startswith(("startup_plan/", "gpu_p2p_access_cache_")):
        return True
    return "__pycache__" in pure.parts


def fault(path: str) -> str | None:
    """Return what is wrong with the path of a cache's file, or None."""
    ending = PurePosixPath(path).suffix
    if not path or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"has not 1 to {MAX_PATH_BYTES} bytes"
    if path.startswith("/") or not all(_is_plain(segment) for segment in path.split("/")):
        return "is an absolute path, or has a segment that is not allowed"
    if not any(path.startswith(f"{root}/") for root in ROOTS):
        return f"lies in none of {', '.join(ROOTS)}"
    if ending in _BUILD_ENDINGS:
        return (
            "belongs to a module that FlashInfer builds with ninja and loads from its workspace "
            "only with a compiler: put the wheel flashinfer-jit-cache into the environment instead"
        )
    # torch keeps graphs and artefacts under their hashes, without an ending.
    if ending in ENDINGS or (ending == "" and path.startswith("torch_compile_cache/")):
        return None
    return f"ending {ending or '(none)'!r} is not one of a cache"


def _is_plain(segment: str) -> bool:
    return segment not in {".", ".."} and _SEGMENT.fullmatch(segment) is not None
