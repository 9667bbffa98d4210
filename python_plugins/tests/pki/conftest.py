"""A real authority and a real openssl in a temporary folder."""

from __future__ import annotations

import datetime as dt
import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor.pki import authority
from tresor.pki.names import Identity, identity
from tresor.pki.place import Place
from tresor.pki.request import Wanted

GRANTED = identity(["gpu1.site.example", "gpu1"], ["198.51.100.31"], ["server", "client"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "ca", tmp_path / "ca" / "passphrase")


@pytest.fixture
def ca(place: Place) -> authority.Authority:
    authority.create(place, "Test CA", "P-256", dt.timedelta(days=365))
    return authority.open_authority(place)


@pytest.fixture
def wanted(tmp_path: Path) -> Callable[..., Wanted]:
    def make(granted: Identity = GRANTED, renew_days: int = 30, name: str = "host") -> Wanted:
        return Wanted(
            name=name,
            key=tmp_path / f"{name}.key",
            certificate=tmp_path / f"{name}.crt",
            common_name="gpu1.site.example",
            identity=granted,
            renew_before=dt.timedelta(days=renew_days),
            owner=(os.getuid(), os.getgid()),
        )

    return make


@pytest.fixture
def me() -> dict[str, str]:
    """The user of the test run as owner of files."""
    return {
        "owner": pwd.getpwuid(os.getuid()).pw_name,
        "group": grp.getgrgid(os.getgid()).gr_name,
    }
