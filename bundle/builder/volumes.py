"""``python -m bundle.builder.volumes``: spread a signed bundle over several media.

Whole files where they fit, shards of 1 GiB where a medium cannot hold the file. Metadata, manifest
and importer lie on every volume; an importer takes the volumes in any order.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tresor.bundle.errors import BundleError, UsageError
from tresor.bundle.manifest import FileEntry
from tresor.bundle.medium import VOLUME_FILE, shards, whole
from tresor.bundle.metadata import only_manifest

FAT32_MAX_BYTES = 2**32 - 1
_SLACK_BYTES = 1024 * 1024  # folders and rounding of the medium's file system


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of a volume: its path, its bytes, and where they begin in the content's file."""

    path: str
    size: int
    source: str
    offset: int = 0


@dataclass(slots=True)
class Volume:
    """What one medium will hold."""

    free: int
    pieces: list[Piece] = field(default_factory=list)


def plan(
    blobs: Sequence[FileEntry], capacity: int, largest: int | None = None
) -> list[list[Piece]]:
    """Assign contents to volumes, largest first.

    Args:
        blobs: all contents.
        capacity: bytes of a volume for contents.
        largest: largest file a medium can hold; ``capacity`` if absent.

    Raises:
        UsageError: rule ``volumes.size``: a content fits nowhere.
    """
    volumes: list[Volume] = []
    limit = min(capacity, largest or capacity)
    for entry in sorted(blobs, key=lambda entry: (-entry.size, entry.sha256)):
        for piece in _pieces(entry, limit):
            place = next((volume for volume in volumes if volume.free >= piece.size), None)
            if place is None:
                place = Volume(capacity)
                volumes.append(place)
            place.free -= piece.size
            place.pieces.append(piece)
    return [volume.pieces for volume in volumes]


def _pieces(entry: FileEntry, limit: int) -> list[Piece]:
    source = whole(entry)
    if entry.size <= limit:
        return [Piece(source, entry.size, source)]
    if not entry.shards or min(entry.shard_size, entry.size) > limit:
        raise UsageError(
            "volumes.size",
            f"{entry.size:,} bytes fit on no volume of {limit:,} and its shards do not either; "
            "use larger media",
            entry.path,
        )
    return [
        Piece(path, size, source, number * entry.shard_size)
        for number, (path, size) in enumerate(shards(entry).items())
    ]


def write(bundle: Path, out: Path, size: int, *, fat32: bool = False) -> list[Path]:
    """Write ``out/volume-<n>/bundle`` and return these folders.

    Args:
        bundle: a signed bundle, complete on one disk.
        out: where the volumes go; contents are hardlinked where the file system allows it.
        size: bytes of a medium.
        fat32: no file beyond 4 GiB.

    Raises:
        UsageError: not signed, too small media, or ``out`` holds volumes already.
    """
    manifest, _ = only_manifest(bundle)
    if not (bundle / "tuf" / "timestamp.json").exists():
        raise UsageError("volumes.unsigned", "sign the bundle first", str(bundle))
    shared = [path for path in bundle.rglob("*") if path.is_file() and _is_shared(path, bundle)]
    capacity = size - sum(path.stat().st_size for path in shared) - _SLACK_BYTES
    if capacity <= 0:
        raise UsageError("volumes.size", f"{size:,} bytes do not hold the metadata alone")
    planned = plan(list(manifest.blobs().values()), capacity, FAT32_MAX_BYTES if fat32 else None)
    folders = []
    for number, pieces in enumerate(planned, 1):
        folder = out / f"volume-{number}" / "bundle"
        if folder.exists():
            raise UsageError("volumes.exists", "remove it or name another folder", str(folder))
        for path in shared:
            _link(path, folder / path.relative_to(bundle))
        for piece in pieces:
            target = folder / piece.path
            if piece.path == piece.source:
                _link(bundle / piece.source, target)
            else:
                _cut(bundle / piece.source, piece.offset, piece.size, target)
        hint = json.dumps({"volume": number, "volumes": len(planned)}, separators=(",", ":"))
        (folder / VOLUME_FILE).unlink(missing_ok=True)
        (folder / VOLUME_FILE).write_text(hint, encoding="ascii")
        folders.append(folder)
    return folders


def _is_shared(path: Path, bundle: Path) -> bool:
    return path.relative_to(bundle).parts[0] in ("tuf", "targets", "bootstrap")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or too many links
        shutil.copyfile(source, target)


def _cut(source: Path, offset: int, size: int, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as whole_file, target.open("wb") as shard:
        done = 0
        while done < size:
            count = os.sendfile(shard.fileno(), whole_file.fileno(), offset + done, size - done)
            if count == 0:
                raise OSError(f"{source} is shorter than the manifest says")
            done += count


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 with a message on stderr."""
    parser = argparse.ArgumentParser(prog="python -m bundle.builder.volumes", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of the signed bundle")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gb", type=float, required=True, help="size of a medium, in 10^9 bytes")
    parser.add_argument("--fat32", action="store_true", help="no file beyond 4 GiB")
    options = parser.parse_args(argv)
    try:
        folders = write(options.bundle, options.out, int(options.gb * 1e9), fat32=options.fat32)
    except (BundleError, OSError) as error:
        sys.stderr.write(f"volumes: error: {error}\n")
        return 2
    for folder in folders:
        sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
