"""Print an access token of the company's identity provider: company-token USER_OR_CLIENT.

Reads who may ask, and with which secret, from /etc/company/credentials.json.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

CREDENTIALS = Path("/etc/company/credentials.json")
TIMEOUT_SECONDS = 10


def request(name: str, credentials: dict[str, object]) -> urllib.request.Request:
    """Return the token request for one user or client."""
    entries = credentials["entries"]
    if not isinstance(entries, dict) or name not in entries:
        known = ", ".join(sorted(entries)) if isinstance(entries, dict) else "none"
        raise SystemExit(f"user or client '{name}' is unknown; use one of: {known}")
    entry = entries[name]
    headers = {}
    if entry["grant"] == "password":
        form = {"grant_type": "password", "client_id": entry["client"]}
        form |= {"username": name, "password": entry["secret"]}
    else:
        form = {"grant_type": "client_credentials"}
        pair = ":".join(urllib.parse.quote(part, safe="") for part in (name, entry["secret"]))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    data = urllib.parse.urlencode(form).encode()
    url = str(credentials["token_uri"])
    return urllib.request.Request(url, data, headers)  # noqa: S310  (https, from our own file)


def main() -> None:
    """Print the token; end with a message and status 1 when there is none."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: company-token USER_OR_CLIENT")
    credentials = json.loads(CREDENTIALS.read_text())
    context = ssl.create_default_context(cafile=credentials["ca_file"])
    asked = request(sys.argv[1], credentials)
    certificate = credentials["entries"][sys.argv[1]].get("certificate")
    if certificate is not None:
        # Its tokens are bound to the certificate it asks with.
        context.load_cert_chain(certificate)
    try:
        with urllib.request.urlopen(  # noqa: S310  (https, from our own file)
            asked, timeout=TIMEOUT_SECONDS, context=context
        ) as answer:
            print(json.load(answer)["access_token"])
    except urllib.error.HTTPError as error:
        raise SystemExit(f"the identity provider refused: {error.code} {error.read()!r}") from None
    except urllib.error.URLError as error:
        raise SystemExit(f"the identity provider did not answer: {error.reason}") from None


if __name__ == "__main__":
    main()
