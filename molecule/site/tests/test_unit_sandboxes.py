"""Every unit of every host is closed in as far as docs/security.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host

from docs.tools.unit_exposure import PAGE, Row, differences, rows

HOSTS = ["bastion", "gateway1", "gpu1", "gpu2", "ops1", "vector1"]
_LIST = "ls /etc/systemd/system/ | grep '^tresor-.*[.]service$'"


@pytest.fixture(scope="module")
def table() -> dict[str, Row]:
    return rows((Path(__file__).parents[3] / PAGE).read_text(encoding="utf-8"))


def measured(host: Host) -> dict[str, float]:
    """Return the exposure of each unit that is ours, by systemd-analyze on the host itself."""
    found = {}
    for unit in host.check_output(_LIST).split():
        name = unit.replace("@.", "@x.")
        text = host.run(f"systemd-analyze security --no-pager {name}").stdout
        exposure = re.search(r"Overall exposure level .*: ([0-9.]+) ", text)
        assert exposure is not None, f"{unit}: {text[-200:]}"
        found[unit.removesuffix(".service")] = float(exposure[1])
    return found


@pytest.mark.parametrize("name", HOSTS)
def test_units_are_as_closed_as_the_page_says(
    connect: Callable[[str], Host], table: dict[str, Row], name: str
) -> None:
    found = measured(connect(name))
    print(name, json.dumps(found, sort_keys=True))
    assert len(found) >= 5
    assert differences(table, found) == []


def test_a_unit_that_was_opened_would_be_told(
    connect: Callable[[str], Host], table: dict[str, Row]
) -> None:
    """The control: the same comparison fails for a unit without its sandbox."""
    host = connect("ops1")
    unit = "tresor-exporter.service"
    drop_in = f"/run/systemd/system/{unit}.d"
    opened = (
        "[Service]\\nProtectSystem=no\\nPrivateTmp=no\\nSystemCallFilter=\\nNoNewPrivileges=no\\n"
    )
    host.check_output(f"mkdir -p {drop_in} && printf '{opened}' > {drop_in}/test.conf")
    try:
        # Nothing is started again: only what systemd would do is judged.
        host.check_output("systemctl daemon-reload")
        said = differences(table, measured(host))
    finally:
        host.check_output(f"rm -r {drop_in} && systemctl daemon-reload")
    assert [text for text in said if text.startswith("tresor-exporter has")]
