"""Runs on company1: one streamed chat request through the unchanged ``openai`` client."""

from __future__ import annotations

import argparse
import json
import ssl
import time
from pathlib import Path

from openai import DefaultHttpxClient, OpenAI


def main() -> None:
    """Print the answer with its times as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("question")
    options = parser.parse_args()
    client = OpenAI(
        base_url=options.base_url,
        api_key=options.token_file.read_text(encoding="utf-8").strip(),
        http_client=DefaultHttpxClient(
            verify=ssl.create_default_context(cafile=options.ca), trust_env=False
        ),
        timeout=120,
        max_retries=0,
    )
    begin = time.monotonic()
    first = None
    text: list[str] = []
    tokens = events = 0
    stream = client.chat.completions.create(
        model=options.model,
        messages=[{"role": "user", "content": options.question}],
        max_tokens=64,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    request_id = stream.response.headers.get("x-request-id", "")
    for chunk in stream:
        events += 1
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic()
                text.append(choice.delta.content)
    end = time.monotonic()
    result = {
        "text": "".join(text).strip(),
        "tokens": tokens,
        "seconds": round(end - begin, 3),
        "first_token_seconds": round((first or end) - begin, 3),
        "events": events,
        "request_id": request_id,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
