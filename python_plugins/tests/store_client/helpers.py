"""A store over real mutual TLS on loopback, and wheels to serve."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tresor.store_client.client import Connection


@dataclass
class Authority:
    """A CA that writes PEM files into a folder."""

    folder: Path
    name: str = "ca"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.certificate = self._build(self.subject, self.key, ca=True)
        self.path = self.folder / f"{self.name}.crt"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return certificate and key files for a host."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(
            self._build(subject, key, ca=False).public_bytes(serialization.Encoding.PEM)
        )
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret


@dataclass
class FakeStore:
    """What the store serves, by path, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    url: str = ""
    connection: Connection | None = None

    def add_part(self, part: str, files: dict[str, bytes]) -> None:
        self.files.update({f"{part}/{path}": content for path, content in files.items()})

    def answer(self, path: str) -> bytes | None:
        self.asked.append(path)
        if path.endswith("/"):
            names = [name for name in self.files if name.startswith(path)]
            return json.dumps(
                [
                    {"name": name[len(path) :], "type": "file", "size": len(self.files[name])}
                    for name in names
                    if "/" not in name[len(path) :]
                ]
            ).encode()
        return self.files.get(path)


@contextmanager
def serve(store: FakeStore, authority: Authority) -> Iterator[FakeStore]:
    """Run the store until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            content = store.answer(path)
            self.send_response(200 if content is not None else 404)
            body = content or b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if path in store.cut:
                store.cut.discard(path)
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = authority.issue("store")
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[ssl.SSLSocket, object]:
            raw, address = self.socket.accept()
            return context.wrap_socket(raw, server_side=True), address

        def handle_error(self, request: object, client_address: object) -> None:
            """Refused handshakes are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    store.url = f"https://localhost:{server.server_address[1]}"
    store.connection = Connection(store.url, authority.path, *authority.issue("host"))
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wheel(
    name: str, version: str, files: dict[str, str], *, command: str = ""
) -> tuple[str, bytes]:
    """Return file name and content of a small, correct wheel; ``command`` is an entry point."""
    info = f"{name}-{version}.dist-info"
    if command:
        files = {**files, f"{info}/entry_points.txt": f"[console_scripts]\n{command}\n"}
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={_spelled(text.encode())},{len(text.encode())}\n"
        for path, text in members.items()
    )
    record += f"{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def _spelled(content: bytes) -> str:
    """A digest as RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def environment_part(
    name: str, version: str, python: str, wheels: list[tuple[str, bytes]]
) -> tuple[dict[str, bytes], str]:
    """Return the files of an environment's part and the digest of its requirements."""
    lines = []
    for file_name, content in wheels:
        project, release = file_name.split("-")[:2]
        digest = hashlib.sha256(content).hexdigest()
        lines.append(f"{project}=={release} --hash=sha256:{digest}\n")
    requirements = "".join(lines).encode()
    digest = hashlib.sha256(requirements).hexdigest()
    record = {"name": name, "version": version, "python": python, "requirements_sha256": digest}
    return {
        **dict(wheels),
        "requirements.txt": requirements,
        "environment.json": json.dumps(record).encode(),
    }, digest


def uv_wheel(program: Path) -> tuple[str, bytes]:
    """Return a wheel that carries the uv of this machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv-1.0.data/scripts/uv", program.read_bytes())
    return "uv-1.0-py3-none-linux.whl", buffer.getvalue()
