"""The programs that are measured beside each other, and how they are set up."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc import jwk, jwt

from services.policy_gateway.bench.process import Running
from services.policy_gateway.bench.script import MODEL

ISSUER: Final = "https://idp.example.com"
AUDIENCE: Final = "urn:example:gateway"
PROJECT: Final = Path(__file__).parents[1]
SOURCE: Final = PROJECT / "src"
_TOKEN_SECONDS: Final = 3600
LITELLM: Final = "litellm[proxy]==1.109.1"


@dataclass(frozen=True)
class Peer:
    """A program that forwards to the engine."""

    name: str
    port: int
    process: Running | None
    token: str = "none"  # noqa: S105 - a placeholder for peers that check nothing


def interpreter() -> str:
    """The Python that hosts run the gateway with: the distribution's, where it is the same version.

    It is built with profiles of its use, which others often are not: a fifth less CPU.
    """
    same = f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    for found in ("/usr/bin/python3", sys.executable):
        if not subprocess.run([found, "-c", same], capture_output=True, check=False).returncode:
            return found
    return sys.executable


def wheel(folder: Path) -> Path:
    """The gateway as it is shipped: its wheel, unpacked; built when the sources have changed.

    Raises:
        RuntimeError: it cannot be built.
    """
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([*PROJECT.glob("*.*"), *SOURCE.rglob("*.*")]):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"\0{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    home = folder / f"wheel-{digest.hexdigest()[:16]}"
    if not home.exists():
        for old in folder.glob("wheel-*"):
            shutil.rmtree(old)
        made = folder / "wheel-new"
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(made)]
        done = subprocess.run(build, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the gateway's wheel cannot be built:\n{done.stderr[-2000:]}")
        [file] = made.glob("*.whl")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(made)
        file.unlink()
        made.rename(home)
    return home


def gateway(  # noqa: PLR0917 - what a peer consists of
    folder: Path,
    port: int,
    admin: int,
    engine: int,
    core: int | None,
    source: Path = SOURCE,
) -> Peer:
    """The gateway with all policies on, one worker, stand-alone; its package is in ``source``."""
    key = jwk.generate_key("RSA", 2048, {"kid": "bench", "use": "sig", "alg": "RS256"})
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [key.as_dict(private=False)]}), encoding="utf-8")
    config: dict[str, Any] = {
        "listen": {"tcp": f"127.0.0.1:{port}"},
        "admin": {"tcp": f"127.0.0.1:{admin}"},
        "identity": {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"file": str(jwks)}},
        "models": [
            {
                "name": MODEL,
                "task": "chat",
                "replicas": [{"url": f"http://127.0.0.1:{engine}"}],
            }
        ],
        "access": [{"group": "users", "models": [MODEL], "endpoints": ["chat.completions"]}],
        "audit": {"directory": str(folder / "audit"), "host": "bench"},
    }
    path = folder / "gateway.yml"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [interpreter(), "-m", "tresor_gateway", "--config", str(path)]
    packages = f"{source}:{sysconfig.get_path('purelib')}"
    process = Running(command, core, folder / "gateway.log", PYTHONPATH=packages)
    process.wait_for(port)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "bench",
        "iat": now,
        "exp": now + _TOKEN_SECONDS,
        "groups": ["users"],
    }
    token = jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "bench"}, claims, key)
    return Peer("gateway", port, process, token)


def audit_decisions(folder: Path) -> int:
    """Decisions in the gateway's audit log; call it when the gateway has stopped."""
    return sum(
        line.count(b'"type":"decision"')
        for path in (folder / "audit").rglob("*.jsonl")
        for line in path.read_bytes().splitlines()
    )


def nginx_program(folder: Path) -> str:
    """NGINX from the system, or unpacked from the distribution's package without installing it.

    Raises:
        RuntimeError: neither is to be had.
    """
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is not None:
        return found
    unpacked = folder / "nginx-package"
    program = unpacked / "usr/sbin/nginx"
    if not program.exists():
        unpacked.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "-q", "download", "nginx"], cwd=unpacked, check=True)
            [package] = unpacked.glob("nginx_*.deb")
            subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise RuntimeError("NGINX is missing: apt-get install nginx") from error
    return str(program)


def nginx(
    folder: Path, program: str, port: int, engine: int, core: int | None, *, auth: int | None = None
) -> Peer:
    """Plain NGINX with kept connections; with ``auth`` every request asks that port first."""
    home = folder / f"nginx-{port}"
    home.mkdir(parents=True, exist_ok=True)
    scratch = "".join(
        f"{kind}_temp_path {home}/{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    asking = answering = authorizer = ""
    if auth is not None:
        asking = "auth_request /authorize;"
        answering = (
            "location = /authorize { internal; proxy_pass http://authorizer; "
            'proxy_pass_request_body off; proxy_set_header Content-Length ""; }'
        )
        authorizer = (
            f"upstream authorizer {{ server 127.0.0.1:{auth}; keepalive 64; }} "
            f"server {{ listen 127.0.0.1:{auth}; access_log off; location / {{ return 204; }} }}"
        )
    config = f"""daemon off; master_process off; pid {home}/pid; error_log {home}/error.log warn;
events {{ worker_connections 4096; }}
http {{
 {scratch}
 access_log {home}/access.log combined buffer=64k flush=1s;
 keepalive_requests 1000000; keepalive_timeout 600s; client_body_buffer_size 64k; tcp_nodelay on;
 proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
 upstream engine {{ server 127.0.0.1:{engine}; keepalive 1024; keepalive_requests 1000000; }}
 {authorizer}
 server {{
  listen 127.0.0.1:{port} backlog=4096;
  location / {{ {asking} proxy_pass http://engine; }}
  {answering}
 }}
}}
"""
    path = home / "nginx.conf"
    path.write_text(config, encoding="utf-8")
    command = [program, "-c", str(path), "-e", f"{home}/error.log"]
    process = Running(command, core, home / "log")
    process.wait_for(port)
    return Peer("nginx" if auth is None else "nginx-auth", port, process)


def litellm(folder: Path, port: int, engine: int, core: int | None) -> Peer:
    """LiteLLM's proxy in an environment of its own, one worker."""
    home = folder / "litellm"
    program = home / "bin" / "litellm"
    if not program.exists():
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(home)], check=True)
        python = str(home / "bin" / "python")
        # Its database migrations are pinned to a version that the index no longer has; unused here.
        override = folder / "litellm-override.txt"
        override.write_text("litellm-proxy-extras\n", encoding="ascii")
        install = ["uv", "pip", "install", "-q", "--python", python, "--override", str(override)]
        subprocess.run([*install, LITELLM], check=True)
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://127.0.0.1:{engine}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"telemetry": False, "request_timeout": 60, "num_retries": 0},
    }
    path = folder / "litellm.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    process = Running(
        [*command, "--num_workers", "1"],
        core,
        folder / "litellm.log",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_MODE="PRODUCTION",
        LITELLM_LOG="ERROR",
    )
    process.wait_for(port, seconds=120)
    return Peer("litellm", port, process, "sk-bench")
