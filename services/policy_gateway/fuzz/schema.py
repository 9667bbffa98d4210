"""Schemathesis against a stand-alone gateway: what the OpenAPI document says is what happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

from services.policy_gateway.fuzz.site import stand_alone
from services.policy_gateway.fuzz.witness import Witness

ROOT: Final = Path(__file__).resolve().parents[3]
DOCUMENT: Final = ROOT / "docs" / "openapi.json"
# In an environment of its own: it needs an older jsonschema-rs than the gateway has.
PACKAGE: Final = "schemathesis==4.32.5"
# A method that is not listed does not exist, so it is 404 and not 405; a generated model does not
# exist either, so good bodies are refused too. Failures are looked at in the records.
_LEFT_OUT: Final = "unsupported_method,positive_data_acceptance,not_a_server_error"


def program(environment: Path) -> Path:
    """Schemathesis, installed when it is not there yet."""
    found = environment / "bin" / "schemathesis"
    if not found.exists():
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(environment)], check=True)
        python = str(environment / "bin" / "python")
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, PACKAGE], check=True)
    return found


async def run(folder: Path, environment: Path, seconds: int) -> list[str]:
    """Ask for ``seconds``; what was wrong, or nothing."""
    command = program(environment)
    # With the models' names, or no generated request would reach an engine.
    document = json.loads(DOCUMENT.read_bytes())
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request"):
            kind = {"EmbeddingRequest": "embedding", "RerankRequest": "rerank"}.get(name, "chat")
            schema["properties"]["model"] = {"enum": [f"{kind}-model"]}
    named = folder / "openapi.json"
    named.write_text(json.dumps(document), encoding="utf-8")
    async with stand_alone(folder) as site:
        witness = await Witness(site.port).start()
        process = await asyncio.create_subprocess_exec(
            *(str(command), "run", str(named), "--url", f"http://127.0.0.1:{witness.port}"),
            *("--header", f"Authorization: Bearer {site.token}", "--no-color"),
            *("--max-time", str(seconds), "--continue-on-failure", "--workers", "2"),
            *("--exclude-checks", _LEFT_OUT, "--generation-database", "none"),
            *("--phases", "examples,coverage,fuzzing"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # It keeps what it found where it runs.
            cwd=folder,
        )
        output = (await process.communicate())[0].decode(errors="replace")
        witness.stop()
        asked = site.engine.asked
        recorded = site.stop()
        log = (folder / "gateway.log").read_text(errors="replace")
    problems = [] if process.returncode == 0 else [output[-20_000:]]
    if "Traceback" in log:
        problems.append(log[-20_000:])
    if sorted(witness.answered) != sorted(recorded):
        problems.append(f"{len(witness.answered)} answers, but {len(recorded)} records")
    if not asked:
        problems.append("no request reached the engine")
    statuses = dict(sorted(Counter(record["status"] for record in recorded.values()).items()))
    # The engine answers every question alike, so what it says obeys no schema that was asked for.
    failures = {
        record["reason"]
        for record in recorded.values()
        if record["status"] >= 500 and record["reason"] != "output_schema"
    }
    if failures:
        problems.append(f"failures although the engine did nothing wrong: {sorted(failures)}")
    print(f"schemathesis: {len(recorded)} answers and records {statuses}, engine asked {asked}")
    return problems
