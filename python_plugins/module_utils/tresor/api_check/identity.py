"""Get tokens of the verify clients from the company's identity provider."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from .client import Endpoint, Request, RequestFailed, Response, call


class IdentityError(RuntimeError):
    """The identity provider gave no usable answer."""


@dataclass(frozen=True)
class Provider:
    """Where tokens come from."""

    endpoint: Endpoint
    path: str
    context: ssl.SSLContext
    timeout: float

    def token(self, client_id: str, secret: str, extra: Mapping[str, str]) -> str:
        """Return an access token by client credentials.

        Args:
            extra: further form fields, such as ``resource`` or ``scope``.

        Raises:
            IdentityError: the provider cannot be reached or refuses. The text holds no secret.
        """
        form = {"grant_type": "client_credentials", **extra}
        # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
        pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        request = Request("POST", self.path, headers, urlencode(form).encode())
        answer = _object(self._call(request), f"token of {client_id}")
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise IdentityError(f"token of {client_id}: the answer holds no access_token")
        return token

    def _call(self, request: Request) -> Response:
        try:
            return call(self.endpoint, request, self.context, self.timeout)
        except RequestFailed as error:
            raise IdentityError(str(error)) from None


def public_key(
    endpoint: Endpoint, path: str, context: ssl.SSLContext, timeout: float
) -> dict[str, Any]:
    """Return the first RSA key of a JWKS.

    Raises:
        IdentityError: the key set cannot be read or has no RSA key.
    """
    try:
        response = call(endpoint, Request("GET", path), context, timeout)
    except RequestFailed as error:
        raise IdentityError(str(error)) from None
    keys = _object(response, "key set").get("keys")
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, dict) and key.get("kty") == "RSA":
            return key
    raise IdentityError("the key set holds no RSA key")


def _object(response: Response, what: str) -> dict[str, Any]:
    body = response.json()
    if response.status != 200 or not isinstance(body, dict):
        error = body.get("error") if isinstance(body, dict) else None
        description = body.get("error_description") if isinstance(body, dict) else None
        raise IdentityError(f"{what}: HTTP {response.status} {error or ''} {description or ''}")
    return body
