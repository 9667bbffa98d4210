"""Ask the platform a question from the company's side with the unchanged ``openai`` client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shell import BUILD, lab, on_host, output, put, run

QUESTION = "What is the capital of France? Answer in one sentence."
MODEL = "smollm2-135m-instruct"
_CLIENT = "/opt/company-client"
_SCRIPT = Path(__file__).with_name("ask_client.py")


@dataclass(frozen=True)
class Answer:
    """A streamed chat answer; times in seconds as the client saw them."""

    text: str
    tokens: int
    seconds: float
    first_token_seconds: float
    events: int
    request_id: str

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second after the first one."""
        decode = self.seconds - self.first_token_seconds
        return round((self.tokens - 1) / decode, 1) if decode > 0 else 0.0


def install_client() -> None:
    """Install the ``openai`` client on company1 from the bundle and trust the site's CA there."""
    # Also after an interrupted first try: uv makes the environment afresh.
    run(
        on_host("company1", "sh", "-euc", _INSTALL.format(client=_CLIENT)),
        what="install the openai client on company1",
    )
    put("company1", f"{_CLIENT}/ask_client.py", _SCRIPT.read_bytes())
    ca = output(on_host("bastion", "cat", "/etc/tresor/pki/ca.crt"), what="read the site CA")
    put("company1", f"{_CLIENT}/site-ca.crt", ca.encode())


def ask(user: str = "alice", question: str = QUESTION) -> Answer:
    """Send ``question`` as ``user`` and return the streamed answer."""
    token = output(lab("token", user), what=f"get a token for {user}").strip()
    put("company1", "/run/company-client.token", token.encode(), mode="0600")
    raw = output(
        on_host(
            "company1", f"{_CLIENT}/venv/bin/python", f"{_CLIENT}/ask_client.py",
            "--base-url", "https://llm.site.example/v1", "--ca", f"{_CLIENT}/site-ca.crt",
            "--token-file", "/run/company-client.token", "--model", MODEL, question,
        ),
        what="chat request",
    )  # fmt: skip
    result: dict[str, Any] = json.loads(raw)
    (BUILD / "answer.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return Answer(**result)


_INSTALL = """
medium=/media/tresor
mkdir -p {client}
python3 -c 'import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1])[0])
member = next(n for n in wheel.namelist() if n.endswith("/scripts/uv"))
open(sys.argv[2], "wb").write(wheel.read(member))' "$medium/wheels-tools/uv-*.whl" {client}/uv
chmod 0755 {client}/uv
{client}/uv --no-config venv -q --clear --python /usr/bin/python3 {client}/venv
{client}/uv --no-config pip install -q --offline --no-index --no-deps --require-hashes \
  --python {client}/venv/bin/python --find-links "$medium/wheels-company-client" \
  -r "$medium/wheels-company-client/requirements.txt"
"""
