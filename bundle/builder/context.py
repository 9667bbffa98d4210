"""Where things are: the repository, the cache, and how the builder may behave."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.builder.errors import BuilderError, SpaceError
from bundle.builder.progress import say

_DEFAULT_CACHE = "/var/cache/tresor"


@dataclass(frozen=True, slots=True)
class Context:
    """Directories of one run.

    Attributes:
        root: the repository.
        cache: ``$TRESOR_CACHE``.
        jobs: package clients that run at the same time.
    """

    root: Path
    cache: Path
    jobs: int = 3

    @property
    def schema_dir(self) -> Path:
        """Return the folder of the JSON Schemas."""
        return self.root / "python_plugins/module_utils/tresor/schema"


def default_context() -> Context:
    """Return the context of this checkout and this user's cache."""
    root = Path(__file__).resolve().parents[2]
    return Context(root=root, cache=Path(os.environ.get("TRESOR_CACHE") or _DEFAULT_CACHE))


@contextmanager
def exclusive(cache: Path) -> Iterator[None]:
    """Let one builder at a time work on a cache; the others wait and say so.

    Raises:
        BuilderError: the cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = os.open(cache / "builder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BuilderError(
            f"cache {cache} cannot be written ({error.strerror}): run as its owner, or set "
            "TRESOR_CACHE to a folder of your own"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another builder works on {cache}; waiting for it to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def require_space(path: Path, needed: int, what: str) -> None:
    """Refuse to begin when ``path``'s file system has fewer than ``needed`` bytes free.

    Raises:
        SpaceError: too little room; the message has both figures.
    """
    free = shutil.disk_usage(path).free
    if free < needed:
        raise SpaceError(
            f"{what} needs {needed / 1e9:.1f} GB in {path}, {free / 1e9:.1f} GB are free: "
            "free space there, or point TRESOR_CACHE or --out to another file system"
        )
