"""Named sources: where files come from that no package client knows, as this machine's owner says.

Neither spec nor lock holds an address. A spec names a source; ``$TRESOR_SOURCES`` (default
``/etc/tresor/bundle-sources.yml``) says what that is here: a folder or a server.

    sources:
      grafana: {type: files, base: "https://mirror.example.com/grafana/"}
      models: {type: huggingface, base: "/srv/models"}
      nvidia-debian-12:
        type: apt
        base: "https://mirror.example.com/cuda/debian12/"
        suite: "/"
        key: /etc/keys/nvidia.asc
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import yaml

from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.context import require_space
from bundle.builder.errors import FetchError, SpecError

VARIABLE = "TRESOR_SOURCES"
DEFAULT = Path("/etc/tresor/bundle-sources.yml")
_TYPES = ("files", "huggingface", "apt")
_KEYS = {"type", "base", "suite", "components", "key"}
_CHUNK = 4 * 1024 * 1024
_TIMEOUT_S = 60
_MAX_BYTES = 2**43
_MAX_TEXT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One entry; ``base`` is an URL that ends in ``/``."""

    name: str
    type: str
    base: str
    suite: str = ""
    components: tuple[str, ...] = ()
    key: str = ""

    @property
    def host(self) -> str:
        """Return the server's name; empty for a folder."""
        return urlsplit(self.base).hostname or ""

    def url(self, path: str) -> str:
        """Return the address of a file below the base.

        Raises:
            SpecError: the path leads elsewhere.
        """
        parts = path.split("/")
        if not path or "\\" in path or {"", ".", ".."} & {*parts} or ":" in parts[0]:
            raise SpecError(f"source {self.name}: {path!r} is no path below its base")
        return self.base + quote(path, safe="/+~@=._-")


def load() -> dict[str, Source]:
    """Return the configured sources; none when the file does not exist.

    Raises:
        SpecError: the file is malformed.
    """
    path = Path(os.environ.get(VARIABLE) or DEFAULT)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    rows = data.get("sources") if isinstance(data, dict) else None
    if not isinstance(rows, dict):
        raise SpecError(f"{path}: needs the key 'sources' with one entry per source")
    return {str(name): _source(path, str(name), row) for name, row in rows.items()}


def _source(path: Path, name: str, row: object) -> Source:
    if not isinstance(row, Mapping) or not {*row} <= _KEYS or row.get("type") not in _TYPES:
        raise SpecError(
            f"{path}: source {name}: {row!r}; keys are {', '.join(sorted(_KEYS))}, type is one of "
            f"{', '.join(_TYPES)}"
        )
    base = str(row.get("base", ""))
    if base.startswith("/"):
        base = Path(base).as_uri()
    if urlsplit(base).scheme not in ("file", "http", "https"):
        raise SpecError(f"{path}: source {name}: base {base!r} is no folder, http or https address")
    if row["type"] == "apt" and not Path(str(row.get("key", ""))).is_file():
        raise SpecError(f"{path}: source {name}: key {row.get('key')!r} is no file")
    return Source(
        name,
        str(row["type"]),
        base.rstrip("/") + "/",
        str(row.get("suite", "/")),
        tuple(str(item) for item in row.get("components", [])),
        str(row.get("key", "")),
    )


def get(name: str, kind: str) -> Source:
    """Return the source called ``name``.

    Raises:
        FetchError: it is not configured here, or of another type.
    """
    source = load().get(name)
    if source is None or source.type != kind:
        seen = "is not configured here" if source is None else f"has the type {source.type!r}"
        place = os.environ.get(VARIABLE) or DEFAULT
        raise FetchError(
            f"source {name!r} {seen}: add it to {place}, for example "
            f"'{name}: {{type: {kind}, base: https://mirror.example.com/{name}/}}'"
        )
    return source


def fetch(source: Source, path: str, store: BlobStore, expected: Blob | None = None) -> Blob:
    """Bring one file into the cache.

    Args:
        source: where it is.
        path: below the source's base.
        store: the cache.
        expected: what the lock says; a file of another size is not read to its end.

    Raises:
        FetchError: not there, or cut off.
        DigestError: another content than expected.
    """
    limit = expected.size if expected else _MAX_BYTES
    if expected:
        require_space(store.cache, expected.size + 200_000_000, f"fetching {path}")
    with store.workdir("source") as folder:
        target = folder / "content"
        try:
            with _open(source.url(path)) as stream, target.open("wb") as sink:
                count = 0
                while count <= limit and (chunk := stream.read(_CHUNK)):
                    sink.write(chunk)
                    count += len(chunk)
        except (OSError, urllib.error.URLError) as error:
            raise FetchError(f"source {source.name}: {path}: {error}") from error
        return store.add_file(target, expected)


def text(source: Source, path: str) -> bytes:
    """Return a small document.

    Raises:
        FetchError: not there, or larger than 64 MiB.
    """
    try:
        with _open(source.url(path)) as stream:
            raw: bytes = stream.read(_MAX_TEXT + 1)
    except (OSError, urllib.error.URLError) as error:
        raise FetchError(f"source {source.name}: {path}: {error}") from error
    if len(raw) > _MAX_TEXT:
        raise FetchError(f"source {source.name}: {path}: more than {_MAX_TEXT} bytes")
    return raw


def _open(url: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - urllib has no common type
    return urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # noqa: S310 - schemes are checked
