"""Metrics of every host, read as Prometheus reads them, and by nobody else."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from testinfra.host import Host

from .conftest import labctl

DOMAIN = "site.example"
CA, CERTIFICATE, KEY = (f"/etc/tresor/pki/{name}" for name in ("ca.crt", "host.crt", "host.key"))
HOSTS = ("bastion1", "gateway1", "gpu1", "gpu2", "vector1", "ops1")
LAB_NAME = {"bastion1": "bastion"}
SOURCES = [
    *((host, "/node", "node_memory_MemAvailable_bytes") for host in HOSTS),
    *((host, "/host", "tresor_certificate_not_after_timestamp_seconds") for host in HOSTS),
    ("bastion1", "/host", "tresor_store_release_info"),
    ("bastion1", "/host", "tresor_api_probe_success"),
    ("gateway1", "/host", "tresor_nginx_log_lines_rejected_total"),
    ("gateway1", "/gateway", "tresor_gateway_start_time_seconds"),
    ("gpu1", "/engine/chat-gpu1", "vllm:num_requests_running"),
    ("gpu2", "/engine/chat-gpu2", "vllm:num_requests_running"),
]
UNITS = ("tresor-node-exporter.service", "tresor-exporter.service", "tresor-metrics.service")

Answer = tuple[int, str]
Ask = Callable[..., Answer]


def curl(host: Host, url: str, *options: str, user: str = "root", key: str = KEY) -> Answer:
    """Return status (0 if there was no answer) and body, asked by a user that gets the key."""
    program = f"curl -sS -m 20 --cacert {CA} -w '\\n%{{http_code}}' "
    program += shlex.join([*options, url])
    program = program.replace("KEY", "$CREDENTIALS_DIRECTORY/key")
    done = host.run(
        f"systemd-run -q --pipe --wait -p User={user} -p LoadCredential=key:{key} "
        f"sh -c {shlex.quote(program)}"
    )
    body, _, status = done.stdout.rstrip("\n").rpartition("\n")
    return (int(status) if status.isdigit() else 0), body


@pytest.fixture(scope="module")
def prometheus(connect: Callable[[str], Host]) -> Ask:
    """Return a function that asks like Prometheus: from ops1, as its user, with its certificate."""
    ops1 = connect("ops1")

    def ask(host: str, path: str, *options: str) -> Answer:
        url = f"https://{host}.{DOMAIN}:9100{path}"
        own = ("--cert", CERTIFICATE, "--key", "KEY", *options)
        return curl(ops1, url, *own, user="prometheus")

    return ask


def samples(text: str) -> dict[str, float]:
    """Return ``name{label="value",...}`` to value, labels sorted."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


@pytest.mark.parametrize(("host", "path", "metric"), SOURCES)
def test_each_source_answers_prometheus(prometheus: Ask, host: str, path: str, metric: str) -> None:
    status, body = prometheus(host, path)
    assert status == 200, body
    assert any(name.partition("{")[0] == metric for name in samples(body)), body[:2000]


@pytest.mark.parametrize("host", HOSTS)
def test_every_collector_of_a_host_works(prometheus: Ask, host: str) -> None:
    for path, name in (
        ("/host", "tresor_exporter_collector_success"),
        ("/node", "node_scrape_collector_success"),
    ):
        found = {k: v for k, v in samples(prometheus(host, path)[1]).items() if k.startswith(name)}
        assert len(found) >= 3
        assert [key for key, value in found.items() if value != 1] == []


@pytest.mark.parametrize("host", HOSTS)
def test_units_of_the_site_are_told(prometheus: Ask, host: str) -> None:
    found = samples(prometheus(host, "/node")[1])
    for unit in UNITS:
        active = f'node_systemd_unit_state{{name="{unit}",state="active",type="exec"}}'
        assert found[active] == 1
    assert not any("tresor-clock@" in key for key in found)


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", (), 404),
        ("/metrics", (), 404),
        ("/node/", (), 404),
        ("/node/../host/x", ("--path-as-is",), 404),
        ("/node?collect[]=cpu", ("--globoff",), 404),
        ("/gateway/healthz", (), 404),
        ("/engine/chat-gpu1/v1/models", (), 404),
        ("/v1/models", (), 404),
        ("/node", ("-X", "POST", "-d", "x"), 405),
        ("/node", ("-I",), 405),
        ("/node", ("-X", "DELETE"), 405),
        ("/node", ("-H", "Host: elsewhere.example"), 421),
    ],
)
def test_nothing_else_is_there(
    prometheus: Ask, path: str, options: tuple[str, ...], status: int
) -> None:
    for host in ("gateway1", "gpu1"):
        assert prometheus(host, path, *options)[0] == status


@pytest.mark.parametrize("host", HOSTS)
def test_without_a_certificate_nothing_is_shown(connect: Callable[[str], Host], host: str) -> None:
    url = f"https://{host}.{DOMAIN}:9100/node"
    status, body = curl(connect("ops1"), url, user="prometheus")
    assert status in (0, 400)
    assert "node_" not in body


@pytest.mark.parametrize("host", [host for host in HOSTS if host != "ops1"])
def test_another_host_s_certificate_is_refused(connect: Callable[[str], Host], host: str) -> None:
    """Asked on the host itself, so that only the certificate can be the reason."""
    url = f"https://{host}.{DOMAIN}:9100/node"
    own = connect(LAB_NAME.get(host, host))
    status, body = curl(own, url, "--cert", CERTIFICATE, "--key", "KEY")
    assert status == 403
    assert "node_" not in body


def test_other_hosts_do_not_even_connect(connect: Callable[[str], Host]) -> None:
    for name, target in (("gateway1", "gpu1"), ("gateway1", "ops1"), ("company1", "gateway1")):
        host = connect(name)
        address = {"gpu1": "198.51.100.31", "ops1": "198.51.100.50", "gateway1": "198.51.100.20"}
        done = host.run(f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address[target]}/9100'")
        assert done.rc != 0, f"{name} reaches {target}"
    # Only Prometheus' user may on ops1 itself.
    done = connect("ops1").run("timeout 3 bash -c 'exec 3<>/dev/tcp/198.51.100.31/9100'")
    assert done.rc != 0


def test_exporters_listen_on_loopback_only(connect: Callable[[str], Host]) -> None:
    for name in HOSTS:
        listening = connect(LAB_NAME.get(name, name)).check_output("ss -Hltn")
        addresses = re.findall(r"(\S+):(910[0-3])\s", listening)
        assert {"9100", "9101", "9102"} <= {port for _, port in addresses}
        outside = [port for address, port in addresses if not address.startswith(("127.", "[::1]"))]
        assert set(outside) == {"9100"}


def _count(ask: Ask, endpoint: str, status: int) -> float:
    name = f'tresor_nginx_requests_total{{endpoint="{endpoint}",status="{status}"}}'
    return samples(ask("gateway1", "/host")[1]).get(name, 0)


def _call(host: Host, path: str, times: int) -> None:
    url = f"https://llm.{DOMAIN}{path}"
    urls = " ".join([f"-o /dev/null {url}"] * times)
    host.check_output(f"curl -sS -m 60 --cacert /etc/tresor/pki/ca.crt -X POST -d x {urls}")


def test_nginx_s_counter_agrees_with_the_requests_sent(
    connect: Callable[[str], Host], prometheus: Ask
) -> None:
    """Not /v1/models: the probe asks there too."""
    bastion = connect("bastion")
    wanted = {("chat.completions", 401): 40, ("other", 404): 25}
    before = {key: _count(prometheus, *key) for key in wanted}
    _call(bastion, "/v1/chat/completions", 40)
    _call(bastion, "/v1/nothing", 25)
    time.sleep(0.5)
    assert {key: _count(prometheus, *key) - before[key] for key in wanted} == wanted


def test_requests_while_the_exporter_is_down_and_the_log_rotates_are_counted(
    connect: Callable[[str], Host], prometheus: Ask
) -> None:
    bastion, gateway = connect("bastion"), connect("gateway1")
    before = _count(prometheus, "chat.completions", 401)
    gateway.check_output("systemctl stop tresor-exporter")
    try:
        _call(bastion, "/v1/chat/completions", 10)
        gateway.check_output(
            "mv -n /var/log/nginx/tresor.json /var/log/nginx/tresor.json-$(date -u +%Y%m%dT%H%M%SZ)"
        )
        _call(bastion, "/v1/chat/completions", 7)  # still to the old file
        gateway.check_output("kill -USR1 $(cat /run/tresor-nginx/nginx.pid)")
        time.sleep(1)
        _call(bastion, "/v1/chat/completions", 5)
    finally:
        gateway.check_output("systemctl start tresor-exporter")
    _wait(lambda: prometheus("gateway1", "/host")[0] == 200)
    assert _count(prometheus, "chat.completions", 401) - before == 22


def _wait(good: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


@pytest.mark.parametrize("unit", UNITS)
def test_a_killed_unit_comes_back(
    connect: Callable[[str], Host], prometheus: Ask, unit: str
) -> None:
    host = connect("vector1")
    before = host.check_output(f"systemctl show -p MainPID --value {unit}")
    host.check_output(f"kill -9 {before}")
    _wait(
        lambda: (
            host.check_output(f"systemctl show -p MainPID --value {unit}") not in ("0", before)
            and prometheus("vector1", "/node")[0] == 200
            and prometheus("vector1", "/host")[0] == 200
        )
    )


@pytest.mark.parametrize("unit", [*UNITS, "tresor-clock@x.service"])
@pytest.mark.parametrize("name", ["gateway1", "ops1"])
def test_units_are_closed_in(connect: Callable[[str], Host], name: str, unit: str) -> None:
    text = connect(name).check_output(f"systemd-analyze security --no-pager {unit} | tail -1")
    found = re.search(r": ([0-9.]+) ", text)
    assert found is not None
    assert float(found[1]) <= 2.0


def test_no_service_of_the_metrics_runs_as_root(connect: Callable[[str], Host]) -> None:
    host = connect("gateway1")
    for unit in UNITS:
        processes = host.check_output(f"cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs")
        assert processes
        for process in processes.split():
            assert host.check_output(f"stat -c %u /proc/{process}") != "0"


def test_a_rebooted_host_tells_its_metrics_again(
    prometheus: Ask, connect: Callable[[str], Host]
) -> None:
    name = "tresor_firewall_logged_drops_total"
    before = {k: v for k, v in samples(prometheus("vector1", "/host")[1]).items() if name in k}
    labctl("reboot", "vector1")
    _wait(lambda: prometheus("vector1", "/node")[0] == 200, 90)
    _wait(lambda: prometheus("vector1", "/host")[0] == 200)
    after = samples(prometheus("vector1", "/host")[1])
    assert len(before) == 3
    # The counters go on where they were.
    assert all(after[key] >= value for key, value in before.items())
