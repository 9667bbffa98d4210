"""Right after the real server started: nobody may get in with the password everybody knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tresor_vector.client.connection import Access, connect, quiet
from tresor_vector.errors import VectorError
from tresor_vector.host import health

_DEFAULT: Final = "Milvus"
_USER: Final = "root"


def wait_healthy(management: str, seconds: float, runs: Callable[[], bool]) -> None:
    """Wait until the server calls itself healthy; ``runs`` says whether its process is there.

    Raises:
        VectorError: it does not within ``seconds``, or ended.
    """
    end = time.monotonic() + seconds
    while not health.of_server(management, 2.0).up:
        if not runs():
            raise VectorError("the server ended while it started; its reasons are in this journal")
        if time.monotonic() > end:
            raise VectorError(
                f"{management}/healthz: the server is not healthy after {seconds:.0f} s; "
                "its reasons are in this unit's journal"
            )
        time.sleep(0.5)


def secure(access: Access, password_file: Path, seconds: float) -> bool:
    """Have the administrator's password be the site's own; return whether it was changed now.

    Raises:
        VectorError: neither password is accepted, or the default one still is.
    """
    password = password_file.read_text(encoding="utf-8").strip()
    if password == _DEFAULT or not 6 <= len(password) <= 72:
        raise VectorError(f"{password_file}: write 6 to 72 characters and not the default")
    quiet()
    end = time.monotonic() + seconds
    changed = False
    while not _accepted(access, password):
        if _accepted(access, _DEFAULT):
            client: Any = connect(access, user=_USER, password=_DEFAULT)
            client.update_password(_USER, _DEFAULT, password)
            changed = True
        elif time.monotonic() > end:
            raise VectorError(
                f"user {_USER}: neither the password in {password_file} nor the default one is "
                "accepted. If it was changed by hand, put that password into the file."
            )
        time.sleep(0.5)
    if _accepted(access, _DEFAULT):
        raise VectorError(f"user {_USER}: the default password is still accepted")
    return changed


def _accepted(access: Access, password: str) -> bool:
    import grpc  # noqa: PLC0415
    from pymilvus.exceptions import MilvusException  # noqa: PLC0415 # slow to load

    try:
        connect(access, user=_USER, password=password).list_collections()
    except (MilvusException, grpc.RpcError):
        return False
    return True
