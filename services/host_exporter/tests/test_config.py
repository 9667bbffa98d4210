"""A configuration is taken as a whole or refused with place, value and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tresor_exporter import config
from tresor_exporter.__main__ import main
from tresor_exporter.errors import ConfigError


def good() -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:9102",
        "state_directory": "/var/lib/tresor/exporter",
        "collectors": {
            "nginx": {"log": "/var/log/nginx/tresor.json", "endpoints": {"/v1/models": "models"}},
            "certificates": {"paths": ["/etc/tresor/pki/host.crt"]},
            "crls": {"paths": []},
            "siem": {
                "report": "/var/lib/tresor/siem/checkpoint.json",
                "stats": "/var/lib/tresor/siem/stats.json",
                "queue": "siem",
                "queue_capacity": 1024,
            },
            "firewall": {"log": "/var/log/ulog/tresor-drops.log"},
            "store": {"root": "/srv/tresor/store"},
            "verify": {"evidence": "/var/lib/tresor/evidence/latest-full.json"},
            "clock": {"socket": "/run/tresor-clock.sock"},
            "probe": {"url": "https://llm.site.example/v1/models", "ca": "/etc/tresor/pki/ca.crt"},
        },
    }


def test_a_whole_configuration_is_taken() -> None:
    found = config.parse(json.dumps(good()).encode(), "x.json")
    assert (found.listen_host, found.listen_port) == ("127.0.0.1", 9102)
    assert found.collectors.probe is not None
    assert (found.collectors.probe.host, found.collectors.probe.port) == ("llm.site.example", 443)
    assert found.collectors.clock is not None
    assert found.collectors.clock.max_age_seconds == 3600


def test_collectors_that_are_not_named_are_off() -> None:
    data = {**good(), "collectors": {}}
    assert config.parse(json.dumps(data).encode(), "x.json").collectors.nginx is None


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("listen",), "0.0.0.0:9102", "listen is '0.0.0.0:9102'; write a loopback address"),
        (("listen",), "127.0.0.1", "write a loopback address and a port"),
        (("listen",), 9102, "listen is 9102; write a text"),
        (("state_directory",), "state", "state_directory is 'state'; write an absolute path"),
        (("colectors",), {}, "unknown key 'colectors'; did you mean collectors?"),
        (("collectors",), [], "collectors: is a list; write a mapping"),
        (("collectors", "ngnix"), {}, "unknown key 'ngnix'; did you mean nginx?"),
        (("collectors", "nginx", "endpoints"), {"/v1/x": "other"}, "not 'other'"),
        (("collectors", "nginx", "endpoints"), {"/v1/x": "A b"}, "write a path and its name"),
        (("collectors", "nginx", "endpoints"), {"/v1/x": 3}, "write a mapping of texts"),
        (("collectors", "certificates", "paths"), ["/a", "/a"], "name each file once"),
        (("collectors", "certificates", "paths"), "/a", "write a list"),
        (("collectors", "siem", "queue"), "", "queue is ''; write a text"),
        (("collectors", "siem", "queue_capacity"), 0, "write a number from 1 to"),
        (("collectors", "siem"), {}, "siem: report is missing; add it"),
        (("collectors", "clock", "max_age_seconds"), True, "write a number"),
        (("collectors", "clock", "max_age_seconds"), 0, "write a number from 1"),
        (("collectors", "probe", "url"), "http://llm.site.example/v1/models", "write https://"),
        (("collectors", "probe", "url"), "https://llm:port/v1", "write https://"),
        (("collectors", "probe", "interval_seconds"), 5, "no more than interval_seconds (5)"),
    ],
)
def test_a_mistake_is_named(keys: tuple[str, ...], value: object, message: str) -> None:
    data = good()
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(ConfigError) as caught:
        config.parse(json.dumps(data).encode(), "x.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.json")


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not JSON"):
        config.parse(b"listen: 127.0.0.1:9102", "x.json")


def test_check_tells_the_mistake_and_ends_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "exporter.json"
    assert main(["--config", str(path), "--check"]) == 78
    path.write_text(json.dumps({**good(), "listen": "198.51.100.31:9102"}))
    assert main(["--config", str(path), "--check"]) == 78
    assert "loopback" in capsys.readouterr().err
    path.write_text(json.dumps(good()))
    assert main(["--config", str(path), "--check"]) == 0
    assert "ok" in capsys.readouterr().out
