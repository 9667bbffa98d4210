"""A fake engine that speaks vLLM's part of the OpenAI API over real TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tresor.api_check.client import Endpoint
from tresor.evaluate.asking import Instance

Say = Callable[[dict[str, Any]], str]


@dataclass
class Engine:
    """What the fake says and counts. ``breaks`` makes a stream end without its last events."""

    model: str
    say: Say
    started: float = 1000.0
    generated: int = 500
    status: int = 200
    breaks: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def metrics(self) -> str:
        return (
            f'vllm:generation_tokens_total{{engine="0"}} {self.generated}\n'
            f"process_start_time_seconds {self.started}\n"
            'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="46592"} 1.0\n'
        )

    def events(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        words = self.say(request).split(" ")
        with self.lock:
            self.generated += len(words)
        for position, word in enumerate(words):
            text = word if position == 0 else f" {word}"
            yield {"choices": [{"delta": {"content": text}, "finish_reason": None}]}
        if not self.breaks:
            yield {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}
            yield {"choices": [], "usage": {"completion_tokens": len(words)}}


class _Handler(BaseHTTPRequestHandler):
    engine: Engine

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        answers: dict[str, tuple[str, str]] = {
            "/v1/models": (
                "application/json",
                json.dumps({"data": [{"id": self.engine.model, "max_model_len": 2048}]}),
            ),
            "/version": ("application/json", '{"version": "0.32.0"}'),
            "/metrics": ("text/plain", self.engine.metrics()),
        }
        kind, text = answers[self.path]
        self._send(200, kind, text.encode())

    def do_POST(self) -> None:
        engine = self.engine
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with engine.lock:
            engine.requests.append(request)
        if engine.status != 200:
            self._send(engine.status, "application/json", b'{"error": "too long"}')
            return
        lines = [f"data: {json.dumps(event)}\n\n" for event in engine.events(request)]
        lines += [] if engine.breaks else ["data: [DONE]\n\n"]
        self._send(200, "text/event-stream", "".join(lines).encode())


@dataclass(frozen=True)
class Certificates:
    """A self-signed certificate for localhost: CA, server and client at once."""

    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("pki")
    found = Certificates(folder / "host.crt", folder / "host.key")
    found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


Start = Callable[[str, Say], tuple[Engine, Instance]]


@pytest.fixture
def start(certificates: Certificates) -> Iterator[Start]:
    """Return a function that starts a fake engine."""
    servers: list[ThreadingHTTPServer] = []

    def begin(name: str, say: Say) -> tuple[Engine, Instance]:
        engine = Engine("qwen", say)
        handler = type("Handler", (_Handler,), {"engine": engine})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = certificates.server().wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        endpoint = Endpoint("localhost", "127.0.0.1", server.server_port)
        return engine, Instance(name, endpoint, engine.model)

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def line(number: int, check: dict[str, Any], prompt: str = "") -> dict[str, Any]:
    """Return a prompt as a line of the file has it."""
    return {
        "id": f"p{number}", "lang": "de" if number % 2 else "en", "kind": "question",
        "prompt": prompt or f"question {number}", "check": check,
    }  # fmt: skip


def file_of(lines: list[dict[str, Any]]) -> bytes:
    """Return the content of a file of prompts."""
    return "".join(json.dumps(one) + "\n" for one in lines).encode()
