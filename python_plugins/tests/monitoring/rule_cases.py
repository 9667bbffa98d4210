"""What makes each alert fire, what does not, and what each recording rule computes.

Series are in promtool's notation; one sample a minute unless a case says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Series = Mapping[str, str]
Labels = Mapping[str, str]

_NGINX = 'tresor_nginx_requests_total{{endpoint="chat.completions",status="{}"}}'
_BUCKET = 'tresor_gateway_{}_seconds_bucket{{model="m",host="gateway1",le="{}"}}'
_COUNT = 'tresor_gateway_{}_seconds_count{{model="m",host="gateway1"}}'
_ENGINE = '{}{{model_name="m",host="gpu1",instance="chat-gpu1"}}'
_ENGINE_LABELS = {"model_name": "m", "host": "gpu1", "instance": "chat-gpu1"}
_DISK = '{{host="gpu1",mountpoint="/",fstype="{}",device="d"}}'
_DAY = 86400


@dataclass(frozen=True)
class AlertCase:
    """One way in which an alert fires, and the nearest in which it must not."""

    alert: str
    fires: Series
    quiet: Series
    labels: Labels
    """Labels that the firing alert carries; all that its texts name must be here."""
    at: str = "30m"
    interval: str = "1m"
    why: str = ""
    """Tells cases of one alert apart."""


@dataclass(frozen=True)
class RecordCase:
    """What a recording rule gives for some series."""

    record: str
    series: Series
    samples: Sequence[tuple[Labels, float]]
    at: str = "30m"
    interval: str = "1m"
    within: float = field(default=1e-6)
    """Allowed relative error: rates extrapolate to the edges of their window."""


def traffic(good: float, bad: float, length: int = 60, step: float = 60) -> Series:
    """Return NGINX's counters for so many answers a second, with as many 4xx as good ones."""
    return {
        _NGINX.format(status): f"0+{rate * step:g}x{length}"
        for status, rate in (("200", good), ("503", bad), ("403", good))
    }


def latency(metric: str, fast: float, slow: float, edges: tuple[str, str, str]) -> Series:
    """Return a histogram that grows by ``fast`` and ``slow`` requests a minute."""
    low, high, infinite = (_BUCKET.format(metric, edge) for edge in edges)
    return {
        low: f"0+{fast:g}x60",
        high: f"0+{fast + slow:g}x60",
        infinite: f"0+{fast + slow:g}x60",
        _COUNT.format(metric): f"0+{fast + slow:g}x60",
    }


def engine(running: float, tokens: str, **more: str) -> Series:
    """Return an engine with requests running and its counter of generated tokens."""
    return {
        _ENGINE.format("vllm:num_requests_running"): f"{running:g}x60",
        _ENGINE.format("vllm:generation_tokens_total"): tokens,
        _ENGINE.format("vllm:prompt_tokens_total"): more.get("prompt", "100x60"),
    }


def one(series: str, fires: str, quiet: str) -> dict[str, Series]:
    """Return the two sides of a case that differ in one series only."""
    return {"fires": {series: fires}, "quiet": {series: quiet}}


def disk(avail: str, size: float, fstype: str = "ext4", readonly: int = 0) -> Series:
    """Return a file system; sizes in bytes."""
    labels = _DISK.format(fstype)
    return {
        f"node_filesystem_avail_bytes{labels}": avail,
        f"node_filesystem_size_bytes{labels}": f"{size:g}x400",
        f"node_filesystem_readonly{labels}": f"{readonly}x400",
    }


_TTFT = "time_to_first_token"
_E2E = "request_duration"
_TTFT_EDGES = ("0.5", "1", "+Inf")
_E2E_EDGES = ("3", "6", "+Inf")
_CERT = 'tresor_certificate_not_after_timestamp_seconds{host="gpu1",path="/p",name="gpu1"}'

_UNJUDGED = (
    "tresor_gateway_classifier_failures_total"
    '{host="gateway1",model="guard",problem="late",worker="0"}'
)


def _refused(decision: str, reason: str) -> str:
    """Return the gateway's counter of one reason."""
    labels = f'host="gateway1",decision="{decision}",reason="{reason}",worker="0"'
    return f"tresor_gateway_decisions_total{{{labels}}}"


ALERTS: Sequence[AlertCase] = (
    AlertCase(
        "InstanceDown",
        **one('up{job="node",host="gpu1",instance="gpu1"}', "0x60", "1x26 0x4"),
        labels={"job": "node", "host": "gpu1", "instance": "gpu1"},
        at="28m",
    ),
    AlertCase(
        "ApiProbeFailing",
        **one('tresor_api_probe_success{host="bastion1"}', "0x60", "1x60"),
        labels={"host": "bastion1"},
    ),
    AlertCase(
        "GatewayWorkerDown",
        **one('tresor_gateway_worker_up{host="gateway1",worker="1"}', "0x60", "1x60"),
        labels={"host": "gateway1", "worker": "1"},
    ),
    AlertCase(
        "SLOBurnFast",
        fires=traffic(0.9, 0.1, 120),
        quiet=traffic(0.975, 0.025, 120),
        labels={},
        at="90m",
        why="10 % against a threshold of 7.2 % within an hour",
    ),
    AlertCase(
        "SLOBurnFast",
        fires=traffic(0.96, 0.04, 500),
        quiet=traffic(0.98, 0.02, 500),
        labels={},
        at="8h",
        why="4 % against a threshold of 3 % within six hours",
    ),
    AlertCase(
        "SLOBurnFast",
        fires=traffic(0.05, 0.05, 120),
        quiet=traffic(0.002, 0.002, 120),
        labels={},
        at="90m",
        why="too few requests say nothing",
    ),
    AlertCase(
        "SLOBurnFast",
        fires={_NGINX.format("200"): "0+60x120", _NGINX.format("503"): "0+60x120"},
        quiet={_NGINX.format("200"): "0+60x120", _NGINX.format("503"): "0+60x50 3000x70"},
        labels={},
        at="90m",
        why="what is over does not alarm",
    ),
    AlertCase(
        "SLOBurnSlow",
        fires=traffic(0.98, 0.02, 400, 300),
        quiet=traffic(0.996, 0.004, 400, 300),
        labels={},
        at="26h",
        interval="5m",
        why="2 % against a threshold of 1.5 % within a day",
    ),
    AlertCase(
        "SLOBurnSlow",
        fires=traffic(0.992, 0.008, 900, 300),
        quiet=traffic(0.997, 0.003, 900, 300),
        labels={},
        at="74h",
        interval="5m",
        why="0.8 % against the budget of 0.5 % within three days",
    ),
    AlertCase(
        "TimeToFirstTokenHigh",
        fires=latency(_TTFT, 9, 3, _TTFT_EDGES),
        quiet=latency(_TTFT, 99, 3, _TTFT_EDGES),
        labels={"model": "m"},
    ),
    AlertCase(
        "TimeToFirstTokenHigh",
        fires=latency(_TTFT, 0, 3, _TTFT_EDGES),
        quiet=latency(_TTFT, 0, 1, _TTFT_EDGES),
        labels={"model": "m"},
        why="too few requests say nothing",
    ),
    AlertCase(
        "EndToEndLatencyHigh",
        fires=latency(_E2E, 9, 3, _E2E_EDGES),
        quiet=latency(_E2E, 99, 3, _E2E_EDGES),
        labels={"model": "m"},
    ),
    AlertCase(
        "EngineHang",
        fires=engine(2, "100x60"),
        quiet=engine(2, "0+5x60"),
        labels=_ENGINE_LABELS,
    ),
    AlertCase(
        "EngineHang",
        fires=engine(1, "100x60"),
        quiet=engine(0, "100x60"),
        labels=_ENGINE_LABELS,
        why="an idle engine does not hang",
    ),
    AlertCase(
        "EngineHang",
        fires=engine(1, "100x60"),
        quiet=engine(1, "100x60", prompt="0+9x60"),
        labels=_ENGINE_LABELS,
        why="reading a long prompt is work",
    ),
    AlertCase(
        "EngineUnreachable",
        fires={
            'tresor_gateway_engine_healthy{host="gateway1",worker="0",engine="e"}': "0x60",
            'tresor_gateway_engine_healthy{host="gateway1",worker="1",engine="e"}': "0x60",
        },
        quiet={
            'tresor_gateway_engine_healthy{host="gateway1",worker="0",engine="e"}': "0x60",
            'tresor_gateway_engine_healthy{host="gateway1",worker="1",engine="e"}': "1x60",
        },
        labels={"host": "gateway1", "engine": "e"},
    ),
    AlertCase(
        "EngineQueueLong",
        **one(_ENGINE.format("vllm:num_requests_waiting"), "4x60", "4 4 4 0 4 4 4 0x60"),
        labels=_ENGINE_LABELS,
    ),
    AlertCase(
        "KVCacheFull",
        fires={
            _ENGINE.format("vllm:kv_cache_usage_perc"): "0.99x60",
            _ENGINE.format("vllm:num_preemptions_total"): "0+1x60",
        },
        quiet={
            _ENGINE.format("vllm:kv_cache_usage_perc"): "0.99x60",
            _ENGINE.format("vllm:num_preemptions_total"): "7x60",
        },
        labels=_ENGINE_LABELS,
    ),
    AlertCase(
        "DiskFillingUp",
        fires=disk("35e9-30e6x400", 100e9),
        quiet=disk("35e9-5e6x400", 100e9),
        labels={"host": "gpu1", "mountpoint": "/"},
        at="6h",
    ),
    AlertCase(
        "DiskFillingUp",
        fires=disk("35e9-30e6x400", 100e9),
        quiet=disk("90e9-80e6x400", 100e9),
        labels={"host": "gpu1", "mountpoint": "/"},
        at="6h",
        why="a large copy onto an empty disk is no trend",
    ),
    AlertCase(
        "DiskFull",
        fires=disk("7e9x60", 100e9),
        quiet=disk("9e9x60", 100e9),
        labels={"host": "gpu1", "mountpoint": "/"},
    ),
    AlertCase(
        "DiskFull",
        fires=disk("0x60", 100e9),
        quiet={**disk("0x60", 100e9, "tmpfs"), **disk("0x60", 100e9, "ext4", readonly=1)},
        labels={"host": "gpu1", "mountpoint": "/"},
        why="memory and read-only media are not disks that fill up",
    ),
    AlertCase(
        "CertificateRenewalOverdue",
        **one(_CERT, f"{22 * _DAY}x200", f"{24 * _DAY}x200"),
        labels={"host": "gpu1", "path": "/p", "name": "gpu1"},
        at="2h",
    ),
    AlertCase(
        "CertificateExpiring",
        **one(_CERT, f"{2 * _DAY}x60", f"{4 * _DAY}x60"),
        labels={"host": "gpu1", "path": "/p", "name": "gpu1"},
    ),
    AlertCase(
        "CRLExpiring",
        **one(
            'tresor_crl_next_update_timestamp_seconds{host="gateway1",path="/crl"}',
            f"{_DAY}x60",
            f"{2 * _DAY}x60",
        ),
        labels={"host": "gateway1", "path": "/crl"},
    ),
    AlertCase(
        "ClockOff",
        **one('tresor_clock_offset_seconds{host="gpu1"}', "-0.7x60", "0.3x60"),
        labels={"host": "gpu1"},
        why="wrong",
    ),
    AlertCase(
        "ClockOff",
        **one('tresor_clock_synchronised{host="gpu1"}', "0x60", "1x60"),
        labels={"host": "gpu1"},
        why="not kept",
    ),
    AlertCase(
        "SigningKeysOld",
        **one(
            'tresor_gateway_jwks_age_seconds{host="gateway1",worker="0"}', "43300x60", "43100x60"
        ),
        labels={"host": "gateway1", "worker": "0"},
    ),
    AlertCase(
        "EngineRestartedForHang",
        **one(
            'tresor_engine_watchdog_restarts_total{host="gpu1",engine="chat-gpu1"}',
            "1x20 2x40",
            "1x60",
        ),
        labels={"host": "gpu1", "engine": "chat-gpu1"},
    ),
    AlertCase(
        "EngineStoppedForHang",
        **one('tresor_engine_watchdog_stopped{host="gpu1",engine="chat-gpu1"}', "1x60", "0x60"),
        labels={"host": "gpu1", "engine": "chat-gpu1"},
    ),
    AlertCase(
        "EngineWatchdogSilent",
        **one(
            'tresor_engine_watchdog_last_look_timestamp_seconds{host="gpu1",engine="chat-gpu1"}',
            "60x60",
            "0+60x60",
        ),
        labels={"host": "gpu1", "engine": "chat-gpu1"},
    ),
    AlertCase(
        "GpuHostDrained",
        **one('tresor_gpu_watcher_drained{host="gpu1"}', "1x60", "0x60"),
        labels={"host": "gpu1"},
    ),
    AlertCase(
        "GpuXid",
        **one('tresor_gpu_xid_total{host="gpu1",pci="0000:18:00",xid="79"}', "1x20 2x40", "1x60"),
        labels={"host": "gpu1", "pci": "0000:18:00", "xid": "79"},
        why="again",
    ),
    AlertCase(
        "GpuXid",
        **one('tresor_gpu_xid_total{host="gpu1",pci="0000:18:00",xid="79"}', "_x25 1x40", "1x60"),
        labels={"host": "gpu1", "pci": "0000:18:00", "xid": "79"},
        why="for the first time",
    ),
    AlertCase(
        "GpuWatcherSilent",
        **one('tresor_gpu_watcher_last_look_timestamp_seconds{host="gpu1"}', "60x60", "0+60x60"),
        labels={"host": "gpu1"},
    ),
    AlertCase(
        "GpuRowRemapFailed",
        **one('DCGM_FI_DEV_ROW_REMAP_FAILURE{host="gpu1",gpu="0"}', "1x60", "0x60"),
        labels={"host": "gpu1", "gpu": "0"},
    ),
    AlertCase(
        "UnitFailed",
        fires={'node_systemd_unit_state{host="gpu1",name="u.service",state="failed"}': "1x60"},
        quiet={
            'node_systemd_unit_state{host="gpu1",name="u.service",state="failed"}': "0x60",
            'node_systemd_unit_state{host="gpu1",name="u.service",state="active"}': "1x60",
        },
        labels={"host": "gpu1", "name": "u.service"},
    ),
    AlertCase(
        "UnitRestarting",
        **one(
            'node_systemd_service_restart_total{host="gpu1",name="u.service"}',
            "0+1x60",
            "0x20 1x5 2x60",
        ),
        labels={"host": "gpu1", "name": "u.service"},
    ),
    AlertCase(
        "ExporterCollectorFailing",
        **one(
            'tresor_exporter_collector_success{host="gpu1",job="host",collector="clock"}',
            "0x60",
            "1x60",
        ),
        labels={"host": "gpu1", "job": "host", "collector": "clock"},
        why="ours",
    ),
    AlertCase(
        "ExporterCollectorFailing",
        **one(
            'node_scrape_collector_success{host="gpu1",job="node",collector="systemd"}',
            "0x60",
            "1x60",
        ),
        labels={"host": "gpu1", "job": "node", "collector": "systemd"},
        why="the node exporter's",
    ),
    AlertCase(
        "AuditUnhealthy",
        **one('tresor_gateway_audit_healthy{host="gateway1",worker="0"}', "0x60", "1x60"),
        labels={"host": "gateway1", "worker": "0"},
    ),
    AlertCase(
        "ContentUnhealthy",
        **one('tresor_gateway_content_healthy{host="gateway1",worker="0"}', "0x60", "1x60"),
        labels={"host": "gateway1", "worker": "0"},
    ),
    AlertCase(
        "ContentFailing",
        **one('tresor_gateway_content_failed_total{host="gateway1",worker="0"}', "0x28 1", "1x60"),
        labels={"host": "gateway1"},
        at="29m",
    ),
    AlertCase(
        "AuditLate",
        **one(_refused("error", "audit_timeout"), "0x28 1", "1x60"),
        labels={"host": "gateway1"},
        at="29m",
    ),
    AlertCase(
        "AuditLate",
        **one(_refused("error", "audit_timeout"), "0+1x60", "0x20 1x60"),
        labels={"host": "gateway1"},
        at="45m",
        why="over after ten minutes",
    ),
    AlertCase(
        "AuditBehind",
        **one(
            'tresor_gateway_audit_pending_records{host="gateway1",worker="0"}',
            "20000x60",
            "20000x27 5x9",
        ),
        labels={"host": "gateway1", "worker": "0"},
        at="29m",
    ),
    AlertCase(
        "ClassifierFailing",
        **one(_UNJUDGED, "0x20 0+2x40", "0x25 3x40"),
        labels={"host": "gateway1", "model": "guard", "problem": "late"},
    ),
    AlertCase(
        "GuardrailFailing",
        **one(_refused("error", "guardrail_timeout"), "0x20 0+1x40", "0x25 2x40"),
        labels={"host": "gateway1", "reason": "guardrail_timeout"},
    ),
    AlertCase(
        "GatewayInternalErrors",
        **one(_refused("error", "internal_error"), "0x28 1", "1x60"),
        labels={"host": "gateway1"},
        at="29m",
    ),
    AlertCase(
        "GatewayFull",
        **one(_refused("error", "overloaded"), "0+1x60", "0x27 1x60"),
        labels={"host": "gateway1"},
    ),
    AlertCase(
        "GatewayFull",
        **one(
            'tresor_gateway_connections_refused_total{host="gateway1",worker="0"}',
            "0+1x60",
            "7x60",
        ),
        labels={"host": "gateway1"},
        why="connections, without any request",
    ),
    AlertCase(
        "ModelQueueFull",
        **one(
            'tresor_gateway_queue_full_total{host="gateway1",model="m",worker="0"}',
            "0+1x60",
            "0x20 0+1x6 6x60",
        ),
        labels={"host": "gateway1", "model": "m"},
    ),
    AlertCase(
        "IdentityUnavailable",
        **one(_refused("error", "identity_unavailable"), "0x20 0+5x40", "5x60"),
        labels={"host": "gateway1"},
    ),
    AlertCase(
        "ForgedTokens",
        **one(_refused("deny", "token_signature"), "0x20 0+5x40", "0x20 0+1x40"),
        labels={"host": "gateway1", "reason": "token_signature"},
    ),
    AlertCase(
        "ForgedTokens",
        **one(_refused("deny", "token_binding"), "0+5x60", "0+1x60"),
        labels={"host": "gateway1", "reason": "token_binding"},
        why="bound to another certificate",
    ),
    AlertCase(
        "TracesDropped",
        **one(
            'tresor_gateway_traces_dropped_total{host="gateway1",worker="0"}',
            "0+1x60",
            "0x40 1x60",
        ),
        labels={"host": "gateway1"},
        at="50m",
    ),
    AlertCase(
        "AuditChainBreak",
        **one('tresor_gateway_audit_chain_breaks{host="gateway1",worker="0"}', "1x60", "0x60"),
        labels={"host": "gateway1", "worker": "0"},
    ),
    AlertCase(
        "VerifyFailed",
        **one('tresor_verify_failed_checks{host="bastion1"}', "2x60", "0x60"),
        labels={"host": "bastion1"},
    ),
    AlertCase(
        "VerifyTooOld",
        **one(
            'tresor_verify_finished_timestamp_seconds{host="bastion1"}',
            f"{-8 * _DAY}x60",
            f"{-7 * _DAY}x60",
        ),
        labels={"host": "bastion1"},
    ),
    AlertCase(
        "FirewallDropsSurge",
        **one(
            'tresor_firewall_logged_drops_total{host="gpu1",direction="out"}',
            "0+1x100 100+600x60",
            "0+600x200",
        ),
        labels={"host": "gpu1", "direction": "out"},
        at="115m",
    ),
    AlertCase(
        "SiemQueueGrowing",
        fires={
            'tresor_siem_queue_records{host="gpu1",queue="q"}': "150000x60",
            'tresor_siem_queue_capacity_records{host="gpu1",queue="q"}': "1000000x60",
        },
        quiet={
            'tresor_siem_queue_records{host="gpu1",queue="q"}': "50000x60",
            'tresor_siem_queue_capacity_records{host="gpu1",queue="q"}': "1000000x60",
        },
        labels={"host": "gpu1", "queue": "q"},
        why="a tenth of its room",
    ),
    AlertCase(
        "SiemQueueGrowing",
        **one('tresor_siem_queue_records{host="gpu1",queue="q"}', "2000+50x60", "20+5x60"),
        labels={"host": "gpu1", "queue": "q"},
        why="it grows",
    ),
    AlertCase(
        "SiemSuspended",
        **one('tresor_siem_suspended{host="gpu1"}', "1x60", "0x60"),
        labels={"host": "gpu1"},
    ),
    AlertCase(
        "SiemDiscarding",
        **one('tresor_siem_discarded_total{host="gpu1",queue="q"}', "0x25 3x60", "3x60"),
        labels={"host": "gpu1", "queue": "q"},
    ),
    AlertCase(
        "SiemCheckpointOld",
        **one('tresor_siem_checkpoint_timestamp_seconds{host="gpu1"}', "60x60", "0+60x60"),
        labels={"host": "gpu1"},
    ),
    AlertCase(
        "SiemStatisticsOld",
        **one('tresor_siem_stats_timestamp_seconds{host="gpu1"}', "60x60", "0+60x60"),
        labels={"host": "gpu1"},
    ),
    AlertCase(
        "MilvusDown",
        **one('tresor_milvus_up{host="vector1"}', "0x60", "1x60"),
        labels={"host": "vector1"},
    ),
    AlertCase(
        "MilvusWritesBlocked",
        **one('tresor_milvus_writes_blocked{host="vector1"}', "1x60", "0x60"),
        labels={"host": "vector1"},
    ),
    AlertCase(
        "RuleEvaluationFailing",
        **one(
            'prometheus_rule_evaluation_failures_total{host="ops1",rule_group="g"}',
            "0+1x60",
            "4x60",
        ),
        labels={"host": "ops1", "rule_group": "g"},
    ),
    AlertCase(
        "AlertmanagerMissing",
        **one('prometheus_notifications_alertmanagers_discovered{host="ops1"}', "0x60", "1x60"),
        labels={"host": "ops1"},
    ),
    AlertCase(
        "AlertDeliveryFailing",
        **one(
            'alertmanager_notifications_failed_total{host="ops1",integration="webhook"}',
            "0+1x60",
            "4x60",
        ),
        labels={"host": "ops1", "integration": "webhook"},
    ),
)

# The only alert that nothing silences.
ALWAYS_FIRING = "Watchdog"


def _availability(window: str, at: str, interval: str, step: float) -> list[RecordCase]:
    # Long enough that the window lies within the series: then rates are exact.
    series = traffic(0.96, 0.04, 2000, step)
    return [
        RecordCase(f"tresor:nginx_valid_requests:rate{window}", series, [({}, 1.0)], at, interval),
        RecordCase(f"tresor:nginx_bad_requests:rate{window}", series, [({}, 0.04)], at, interval),
        RecordCase(f"tresor:burn:rate{window}", series, [({}, 8.0)], at, interval),
    ]


def _engine_record(record: str, metric: str, values: str, expected: float) -> RecordCase:
    return RecordCase(record, {_ENGINE.format(metric): values}, [(_ENGINE_LABELS, expected)])


RECORDS: Sequence[RecordCase] = (
    RecordCase("tresor:target_error_budget:ratio", {}, [({}, 0.005)]),
    RecordCase("tresor:target_ttft_p95:seconds", {}, [({}, 0.5)]),
    RecordCase("tresor:target_e2e_p95:seconds", {}, [({}, 3)]),
    RecordCase("tresor:target_minimum_requests:count", {}, [({}, 50)]),
    RecordCase("tresor:target_burn_1h:ratio", {}, [({}, 14.4)]),
    RecordCase("tresor:target_burn_6h:ratio", {}, [({}, 6)]),
    RecordCase("tresor:target_burn_1d:ratio", {}, [({}, 3)]),
    RecordCase("tresor:target_burn_3d:ratio", {}, [({}, 1)]),
    RecordCase("tresor:target_certificate_overdue:seconds", {}, [({}, 22.5 * _DAY)]),
    RecordCase("tresor:target_certificate_expiring:seconds", {}, [({}, 3 * _DAY)]),
    RecordCase("tresor:target_crl_expiring:seconds", {}, [({}, _DAY)]),
    RecordCase("tresor:target_jwks_age:seconds", {}, [({}, 43200)]),
    RecordCase("tresor:target_verify_age:seconds", {}, [({}, 8 * _DAY)]),
    *_availability("5m", "3h", "1m", 60),
    *_availability("30m", "3h", "1m", 60),
    *_availability("1h", "3h", "1m", 60),
    *_availability("2h", "3h", "1m", 60),
    *_availability("6h", "8h", "1m", 60),
    *_availability("1d", "26h", "5m", 300),
    *_availability("3d", "74h", "5m", 300),
    RecordCase("tresor:availability:ratio_window", traffic(0.96, 0.04, 200), [({}, 0.96)], "2h"),
    RecordCase(
        "tresor:error_budget_left:ratio_window", traffic(0.998, 0.002, 200), [({}, 0.6)], "2h"
    ),
    RecordCase(
        "tresor:gateway_ttft:p95_5m", latency(_TTFT, 9, 1, _TTFT_EDGES), [({"model": "m"}, 0.75)]
    ),
    RecordCase(
        "tresor:gateway_ttft:requests_5m", latency(_TTFT, 9, 1, _TTFT_EDGES), [({"model": "m"}, 50)]
    ),
    RecordCase(
        "tresor:gateway_e2e:p95_5m", latency(_E2E, 9, 1, _E2E_EDGES), [({"model": "m"}, 4.5)]
    ),
    RecordCase(
        "tresor:gateway_e2e:requests_5m", latency(_E2E, 9, 1, _E2E_EDGES), [({"model": "m"}, 50)]
    ),
    RecordCase(
        "tresor:gateway_e2e_under_3s:ratio_5m",
        latency(_E2E, 9, 1, _E2E_EDGES),
        [({"model": "m"}, 0.9)],
    ),
    RecordCase(
        "tresor:gateway_e2e_under_3s:ratio_5m",
        latency(_E2E, 9, 1, ("3.0", "6.0", "+Inf")),
        [({"model": "m"}, 0.9)],
    ),
    RecordCase(
        "tresor:nginx_e2e_under_3s:ratio_5m",
        {
            'tresor_nginx_request_duration_seconds_bucket{endpoint="models",le="3"}': "0+8x60",
            'tresor_nginx_request_duration_seconds_bucket{endpoint="models",le="+Inf"}': "0+10x60",
            'tresor_nginx_request_duration_seconds_count{endpoint="models"}': "0+10x60",
        },
        [({"endpoint": "models"}, 0.8)],
    ),
    RecordCase(
        "tresor:gateway_requests:rate5m",
        {
            'tresor_gateway_requests_total{worker="0",model="m",endpoint="e",decision="allow",'
            'status="200"}': "0+60x60",
            'tresor_gateway_requests_total{worker="1",model="m",endpoint="e",decision="allow",'
            'status="200"}': "0+120x60",
        },
        [({"model": "m", "endpoint": "e", "decision": "allow", "status": "200"}, 3)],
    ),
    RecordCase(
        "tresor:gateway_tokens:rate5m",
        {
            'tresor_gateway_tokens_total{worker="0",model="m",kind="completion"}': "0+60x60",
            'tresor_gateway_tokens_total{worker="1",model="m",kind="completion"}': "0+60x60",
        },
        [({"model": "m", "kind": "completion"}, 2)],
    ),
    _engine_record(
        "tresor:engine_generation_tokens:rate5m", "vllm:generation_tokens_total", "0+600x60", 10
    ),
    _engine_record("tresor:engine_prompt_tokens:rate5m", "vllm:prompt_tokens_total", "0+60x60", 1),
    _engine_record("tresor:engine_running:sum", "vllm:num_requests_running", "3x60", 3),
    _engine_record("tresor:engine_waiting:sum", "vllm:num_requests_waiting", "2x60", 2),
    _engine_record("tresor:engine_kv_cache_usage:max", "vllm:kv_cache_usage_perc", "0.4x60", 0.4),
    _engine_record(
        "tresor:engine_preemptions:rate5m", "vllm:num_preemptions_total", "0+30x60", 0.5
    ),
    RecordCase(
        "tresor:gpu_utilisation:ratio",
        {'DCGM_FI_DEV_GPU_UTIL{host="gpu1",gpu="0",Hostname="gpu1"}': "80x60"},
        [({"host": "gpu1", "gpu": "0"}, 0.8)],
    ),
    RecordCase(
        "tresor:gpu_memory_used:ratio",
        {
            'DCGM_FI_DEV_FB_USED{host="gpu1",gpu="0"}': "30x60",
            'DCGM_FI_DEV_FB_FREE{host="gpu1",gpu="0"}': "50x60",
        },
        [({"host": "gpu1", "gpu": "0"}, 0.375)],
    ),
)
