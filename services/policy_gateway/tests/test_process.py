"""The service as it is deployed: processes, sockets, mutual TLS, and the unchanged client."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from openai import APIError, AsyncOpenAI, AuthenticationError, NotFoundError

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    QUESTION,
    Client,
    Engine,
    EngineRequest,
    Issuer,
    Site,
    chunk,
    event,
    settings,
    stream_head,
    stream_two,
)
from tresor_gateway.audit.verify import order, verify

pytestmark = pytest.mark.asyncio


class Authority:
    """A CA and the certificates it gives out, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.crt"
        self.ca.write_bytes(self._sign(self._name, self._key.public_key(), None))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, ip: str | None) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ip is None, path_length=None), critical=True)
        )
        if ip is not None:
            usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            name = x509.IPAddress(ipaddress.ip_address(ip))
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, ip: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        cert_file.write_bytes(self._sign(subject, key.public_key(), ip))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file


def engine_context(site: Authority, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(site.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("case", ["good", "other-ca", "other-name"])
async def test_engines_are_reached_over_mutual_tls_only(
    make_site: MakeSite, tmp_path: Path, case: str
) -> None:
    authority = Authority(tmp_path, "site")
    foreign = Authority(tmp_path, "foreign")
    cert, key = authority.issue("gateway", "127.0.0.1")
    maker = foreign if case == "other-ca" else authority
    server = maker.issue("engine", "127.0.0.2" if case == "other-name" else "127.0.0.1")
    engine = await Engine(tls=engine_context(authority, *server)).start()
    site = await make_site(
        [engine.url],
        upstream={"ca_file": str(authority.ca), "cert_file": str(cert), "key_file": str(key)},
    )
    response = await site.ask(body=QUESTION)
    assert response.status == (200 if case == "good" else 503)
    assert len(engine.requests) == (case == "good")
    await engine.stop()


@pytest.mark.parametrize(("named", "status"), [("company", 200), ("site", 503), (None, 503)])
async def test_server_outside_is_vouched_for_by_its_own_authority_only(
    make_site: MakeSite, tmp_path: Path, named: str | None, status: int
) -> None:
    site_ca, company = Authority(tmp_path, "site"), Authority(tmp_path, "company")
    cert, key = site_ca.issue("gateway", "127.0.0.1")
    engine = await Engine(
        tls=engine_context(site_ca, *company.issue("outside", "127.0.0.1"))
    ).start()
    files = {"company": str(company.ca), "site": str(site_ca.ca), None: None}
    values = settings(tmp_path, [engine.url])
    for model in values["models"]:
        model["replicas"][0]["ca_file"] = files[named]
    site = await make_site(
        models=values["models"],
        upstream={"ca_file": str(site_ca.ca), "cert_file": str(cert), "key_file": str(key)},
    )
    assert (await site.ask(body=QUESTION)).status == status
    await engine.stop()


async def test_authority_outside_does_not_vouch_for_engines(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site_ca, company = Authority(tmp_path, "site"), Authority(tmp_path, "company")
    cert, key = site_ca.issue("gateway", "127.0.0.1")
    tls = engine_context(site_ca, *company.issue("outside", "127.0.0.1"))
    outside, false_engine = await Engine(tls=tls).start(), await Engine(tls=tls).start()
    values = settings(tmp_path, [false_engine.url])
    replicas = [{"url": outside.url, "ca_file": str(company.ca)}]
    values["models"].append({"name": "omni", "task": "moderation", "replicas": replicas})
    site = await make_site(
        models=values["models"],
        upstream={"ca_file": str(site_ca.ca), "cert_file": str(cert), "key_file": str(key)},
    )
    assert (await site.ask(body=QUESTION)).status == 503
    assert not false_engine.requests
    await outside.stop()
    await false_engine.stop()


async def test_certificate_that_is_not_there_stops_the_start(make_site: MakeSite) -> None:
    with pytest.raises(Exception, match="ca_file /none"):
        await make_site(
            ["https://127.0.0.1:1"],
            upstream={"ca_file": "/none", "cert_file": "/none", "key_file": "/none"},
        )


async def test_openai_client_works_unchanged(site: Site, engines: list[Engine]) -> None:
    base = f"http://{site.worker.address}/v1"
    async with AsyncOpenAI(base_url=base, api_key=site.issuer.token(), max_retries=0) as client:
        listed = [model.id async for model in await client.models.list()]
        assert listed == ["smollm"]
        whole = await client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=8,
            temperature=0,
        )
        assert whole.choices[0].message.content == "In Peru."
        for engine in engines:
            engine.script = stream_two
        stream = await client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [part async for part in stream]
        text = "".join(part.choices[0].delta.content or "" for part in chunks if part.choices)
        assert text == "In Peru"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 2
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(
                model="none", messages=[{"role": "user", "content": "Hi"}]
            )

        async def dies(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
            stream_head(writer)
            chunk(writer, event("In"))
            await writer.drain()
            writer.close()

        for engine in engines:
            engine.script = dies
        broken = await client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(APIError, match="engine was lost"):
            [part async for part in broken]
    async with AsyncOpenAI(base_url=base, api_key="wrong", max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            await client.models.list()


# What systemd does with descriptors it kept: they begin with the third, and are for one process.
_AS_SYSTEMD = """
import json, os, sys
for place, descriptor in enumerate(json.loads(os.environ["TEST_DESCRIPTORS"]), 100):
    os.dup2(descriptor, place, inheritable=False)
    os.close(descriptor)
for offset in range(int(os.environ["LISTEN_FDS"])):
    os.dup2(100 + offset, 3 + offset)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


class Service:
    """The program itself with two workers on Unix sockets."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "gateway.yml"
        self.config.write_text(json.dumps(values))
        self.process: asyncio.subprocess.Process
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setblocking(False)
        self._notify.bind(str(folder / "notify"))

    async def launch(self, kept: dict[str, int] | None = None) -> None:
        """Start the program; ``kept`` are descriptors by name that systemd would pass to it."""
        env = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "PYTHONWARNINGS": "error",
        }
        source = Path(sys.modules["tresor_gateway"].__file__ or "").parent.parent
        env["PYTHONPATH"] = str(source)
        command = [sys.executable, "-m", "tresor_gateway", "--config", str(self.config)]
        kept = kept or {}
        if kept:
            env |= {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(kept)}
            command = [sys.executable, "-c", _AS_SYSTEMD, *command]
        descriptors = list(kept.values())
        env["TEST_DESCRIPTORS"] = json.dumps(descriptors)
        self.process = await asyncio.create_subprocess_exec(*command, env=env, pass_fds=descriptors)

    async def kept(self) -> dict[str, int]:
        """Descriptors by name that the service has handed to systemd to keep."""
        found: dict[str, int] = {}
        while True:
            try:
                said, descriptors, _, _ = socket.recv_fds(self._notify, 1000, 4)
            except BlockingIOError:
                return found
            if said.startswith(b"FDSTORE=1\nFDNAME="):
                found[said.decode().partition("FDNAME=")[2]] = descriptors[0]

    async def start(self, kept: dict[str, int] | None = None) -> None:
        await self.launch(kept)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            assert await loop.sock_recv(self._notify, 100) == b"READY=1"

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self.process.wait()

    def close(self) -> None:
        self._notify.close()

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "gateway.pid").read_text().split()]

    async def ask(
        self, target: str, token: str | None, worker: int = 0, **parts: Any
    ) -> tuple[int, dict[str, str], bytes]:
        client = await Client.open(str(self.folder / f"worker-{worker}.sock"))
        client.request("POST" if "body" in parts else "GET", target, token, **parts)
        response = await client.response()
        await client.close()
        return response.status, response.headers, response.body

    async def admin(self, target: str) -> tuple[int, bytes]:
        client = await Client.open(str(self.folder / "admin.sock"))
        client.request("GET", target)
        response = await client.response()
        await client.close()
        return response.status, response.body


@pytest_asyncio.fixture
async def service(tmp_path: Path, issuer: Issuer, engines: list[Engine]) -> AsyncIterator[Service]:
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(issuer.key))
    (tmp_path / "pseudonym").write_bytes(b"p" * 32)
    (tmp_path / "salt").write_bytes(b"s" * 32)
    (tmp_path / "jwks.cache").touch()
    values = settings(tmp_path, [engine.url for engine in engines])
    values |= {
        "listen": {"tcp": None, "sockets": str(tmp_path)},
        "admin": {"socket": str(tmp_path / "admin.sock")},
        "keys": {
            "pseudonym_file": str(tmp_path / "pseudonym"),
            "cache_salt_file": str(tmp_path / "salt"),
        },
        "workers": 2,
        "pid_file": str(tmp_path / "gateway.pid"),
    }
    # Behind sockets plain engines are refused, so no request reaches one in these tests.
    authority = Authority(tmp_path, "site")
    cert, key = authority.issue("gateway", "127.0.0.1")
    for model in values["models"]:
        model["replicas"] = [{"url": "https://127.0.0.1:9"}]
    values["upstream"] = {
        "ca_file": str(authority.ca),
        "cert_file": str(cert),
        "key_file": str(key),
    }
    running = Service(tmp_path, values)
    await running.start()
    yield running
    await running.stop()
    running.close()


async def test_nginx_question_is_answered_by_token_and_endpoint(
    service: Service, issuer: Issuer
) -> None:
    async def ask(token: str | None, endpoint: str) -> tuple[int, dict[str, str]]:
        headers = {"X-Tresor-Endpoint": endpoint, "X-Request-Id": f"nginx-{endpoint}"}
        status, answer, _ = await service.ask("/internal/authorize", token, headers=headers)
        return status, answer

    good, guest = issuer.token(), issuer.token(groups=["guests"])
    assert (await ask(good, "chat.completions"))[0] == 204
    assert (await ask(good, "embeddings"))[0] == 403
    assert (await ask(guest, "models"))[0] == 403
    assert (await ask(good, "nothing"))[0] == 404
    status, headers = await ask(None, "models")
    assert status == 401
    assert headers["www-authenticate"].startswith("Bearer")
    assert headers["x-request-id"] == "nginx-models"
    assert await service.stop() == 0
    lines = [
        json.loads(line)
        for path in order([service.folder / "audit"])
        for line in path.read_bytes().splitlines()
    ]
    seen = [(r["reason"], r["endpoint"]) for r in lines if r["type"] == "decision"]
    assert seen == [
        ("endpoint_forbidden", "embeddings"),
        ("endpoint_forbidden", "models"),
        ("unknown_path", "unknown"),
        ("token_missing", "models"),
    ]


async def test_both_workers_serve_and_metrics_are_merged(service: Service, issuer: Issuer) -> None:
    for worker in (0, 1):
        status, _, _ = await service.ask("/v1/models", issuer.token(), worker)
        assert status == 200
    status, body = await service.admin("/metrics")
    text = body.decode()
    assert status == 200
    for worker in (0, 1):
        assert f'tresor_gateway_worker_up{{worker="{worker}"}} 1' in text
        assert (
            'tresor_gateway_requests_total{endpoint="models",model="",decision="allow",'
            f'status="200",worker="{worker}"}} 1'
        ) in text
    assert text.count("# TYPE tresor_gateway_requests_total counter") == 1
    assert "alice" not in text
    assert (await service.admin("/healthz"))[0] == 200
    assert (await service.admin("/v1/models"))[0] == 404
    assert (await service.ask("/metrics", issuer.token()))[0] == 404


async def test_killed_worker_is_started_again_and_its_chain_holds(
    service: Service, issuer: Issuer
) -> None:
    before = service.pids
    await service.ask("/v1/models", issuer.token())
    os.kill(before[0], signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            try:
                status, _, _ = await service.ask("/v1/models", issuer.token())
            except OSError:
                continue
            if status == 200 and service.pids[0] != before[0]:
                break
    assert service.pids[1] == before[1]
    assert await service.stop() == 0
    assert verify([service.folder / "audit"]).complete
    assert not (service.folder / "gateway.pid").exists()


async def test_sockets_are_for_the_group_only(service: Service) -> None:
    for name in ("worker-0.sock", "worker-1.sock", "admin.sock"):
        assert (service.folder / name).stat().st_mode & 0o777 == 0o660
    for path in (service.folder / "audit").rglob("*.jsonl"):
        assert path.stat().st_mode & 0o007 == 0


async def test_worker_that_cannot_start_ends_the_service(tmp_path: Path, issuer: Issuer) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values |= {
        "listen": {"sockets": str(tmp_path / "none")},
        "admin": {"socket": str(tmp_path / "admin.sock")},
        "keys": {"pseudonym_file": "/none", "cache_salt_file": "/none"},
    }
    for model in values["models"]:
        model["replicas"] = [{"url": "https://127.0.0.1:9"}]
    values["upstream"] = {"ca_file": "/none", "cert_file": "/none", "key_file": "/none"}
    running = Service(tmp_path, values)
    await running.launch()
    async with asyncio.timeout(30):
        assert await running.process.wait() == 78
    running.close()


async def test_chat_path_is_guarded_in_the_real_service(service: Service, issuer: Issuer) -> None:
    status, _, body = await service.ask(CHAT_PATH, issuer.token(), body=QUESTION)
    assert status == 503
    assert json.loads(body)["error"]["code"] == "upstream_unavailable"


async def test_who_comes_during_a_restart_waits_and_is_served(
    service: Service, issuer: Issuer
) -> None:
    waiting = [Client(*await _connection(service, 0))]
    stopping = asyncio.ensure_future(service.stop())
    while not stopping.done():
        await asyncio.sleep(0.05)
        waiting.append(Client(*await _connection(service, len(waiting) % 2)))
        waiting[-1].request("GET", "/v1/models", issuer.token())
    assert await stopping == 0
    kept = await service.kept()
    assert sorted(kept) == ["worker-0", "worker-1"]
    # Nobody serves now; who comes is not refused.
    waiting.append(Client(*await _connection(service, 1)))
    waiting[-1].request("GET", "/v1/models", issuer.token())
    await service.start(kept)
    for descriptor in kept.values():
        os.close(descriptor)
    async with asyncio.timeout(30):
        assert [(await client.response()).status for client in waiting[1:]] == [200] * (
            len(waiting) - 1
        )
    for client in waiting:
        await client.close()
    assert (await service.ask("/v1/models", issuer.token(), worker=0))[0] == 200


async def test_socket_of_a_worker_that_died_refuses_after_a_restart(service: Service) -> None:
    await service.stop()
    kept = await service.kept()
    await service.start(kept)
    for descriptor in kept.values():
        os.close(descriptor)
    os.kill(service.pids[0], signal.SIGKILL)
    # Neither the supervisor nor systemd holds it any more: NGINX goes to the other worker at once.
    with pytest.raises(ConnectionRefusedError):
        while True:
            _, writer = await _connection(service, 0)
            writer.close()
            await asyncio.sleep(0.001)


async def test_descriptors_that_are_none_of_ours_are_closed(
    service: Service, issuer: Issuer
) -> None:
    await service.stop()
    for descriptor in (await service.kept()).values():
        os.close(descriptor)
    with socket.socket() as strange:
        await service.start({"worker-0": strange.fileno(), "other": os.dup(strange.fileno())})
    assert (await service.ask("/v1/models", issuer.token(), worker=0))[0] == 200


async def _connection(
    service: Service, worker: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(service.folder / f"worker-{worker}.sock"))
