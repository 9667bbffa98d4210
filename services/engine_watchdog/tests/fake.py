"""A fake engine over mutual TLS that works, is busy, hangs as a real one does, or is gone."""

from __future__ import annotations

import datetime
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificates(folder: Path) -> dict[str, str]:
    """Write a certificate for localhost that is CA, server and client at once."""
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
    pem = serialization.Encoding.PEM
    (folder / "host.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "host.key").write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return {
        "ca_file": str(folder / "host.crt"),
        "certificate_file": str(folder / "host.crt"),
        "key_file": str(folder / "host.key"),
    }


class Engine:
    """How it behaves: ``status`` of answers; ``hangs``: none, though /health and /metrics answer.

    ``moves`` is added to the tokens at every look at the metrics, as the work of others.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self.status = 200
        self.hangs = False
        self.metrics_hang = False
        self.moves = 0
        self.tokens = 0
        self.asked: list[str] = []
        self._released = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def send(self, status: int, text: str) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass  # whoever asked did not wait

            def do_GET(self) -> None:
                if self.path == "/metrics" and engine.metrics_hang:
                    engine._released.wait(30)
                engine.tokens += engine.moves
                self.send(200, engine.metrics() if self.path == "/metrics" else "")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                engine.asked.append(f"{self.path} {body}")
                if engine.hangs:
                    engine._released.wait(30)
                elif engine.status == 200:
                    engine.tokens += 1
                self.send(engine.status, "{}")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files["certificate_file"], files["key_file"])
        context.load_verify_locations(files["ca_file"])
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # A handshake in the accepting thread would let one who hangs stop all others.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def metrics(self) -> str:
        return (
            "# HELP vllm:prompt_tokens_total x\n"
            f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {self.tokens}.0\n'
            'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n'
            f'vllm:request_success_total{{finished_reason="abort"}} {len(self.asked)}.0\n'
        )

    def end(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
