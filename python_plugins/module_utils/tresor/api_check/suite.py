"""The checks of the request path in their order."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import judge, paths, tls, tokens
from .client import Endpoint
from .expectations import (
    Replicas,
    Rights,
    aliases,
    choosers,
    endpoints_of,
    rights,
    usable,
    withheld,
)
from .identity import IdentityError
from .recorder import Recorder, json_request

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
MODELS = "/v1/models"
UNKNOWN_MODEL = "no-such-model"

_HIDDEN = frozenset({403, 404})
_NOT_THERE = frozenset({400, 403, 404, 405})
"""Answers to a path that does not exist, or is no path at all."""
_FRESH_MARGIN = 3.0
"""Seconds a token must still be valid (clock skew included) to be shown as accepted."""
_PER_REPLICA = 2

FetchToken = Callable[[str, Mapping[str, str]], str]
"""Client key of the plan and extra form fields to token; raises IdentityError."""


@dataclass(frozen=True)
class Settings:
    """What the suite needs besides the plan."""

    ca_file: str
    max_wait: float
    """Longest time to wait for the expired token to expire, seconds."""
    max_tokens: int = 24
    routes: Sequence[Mapping[str, Any]] = ()
    """Names that stand for a model chosen by rules, each with name, default and rules."""


class Suite:
    """Runs all checks against one site."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        settings: Settings,
        recorder: Recorder,
        fetch: FetchToken,
        fetch_public_key: Callable[[], Mapping[str, Any]],
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            PlanError: the plan has no address for the API's name.
        """
        self._plan = plan
        self._settings = settings
        self._do = recorder
        self._fetch = fetch
        self._fetch_public_key = fetch_public_key
        self._now = now
        self._sleep = sleep
        self._endpoints = endpoints_of(plan, plan["site"]["api_name"])
        self._api = self._endpoints[0]
        self._identity = plan["site"]["identity"]
        self.replicas: list[Replicas] = []
        """The models that were asked often enough for each instance to get a request."""

    def run(self) -> None:
        """Run everything; results are in the recorder."""
        self._tls_versions()
        expired = self._token("expired")
        if expired is not None:
            self._fresh(expired)
        allowed = self._token("allowed")
        self._no_token()
        if allowed is not None:
            self._serve(allowed)
            self._forgeries(allowed)
            self._withheld_models(allowed)
            self._hidden_paths(allowed)
        else:
            reason = "there is no token of the allowed verify client"
            self._do.missing("api.allowed", "an allowed client is served", reason)
            self._do.missing("api.paths", "side routes do not exist", reason)
        self._wrong_audience()
        self._no_access()
        if expired is not None:
            self._expired(expired)
        self._do.add(
            "api.request_ids",
            "every answer carries a request id of its own",
            f"https://{self._api.name}",
            expected="an x-request-id per answer, all different",
            verdict=judge.request_ids([item.request_id for item in self._do.sent]),
        )

    # --- tokens ------------------------------------------------------------------------------

    def _token(self, client: str) -> str | None:
        check_id, what = f"api.token.{client}", f"the identity provider issues a token: {client}"
        target = self._plan["site"]["verify"]["token_uri"]
        started = time.monotonic()
        try:
            entry = self._plan["site"]["verify"]["clients"][client]
            extra = {name: entry[name] for name in ("resource", "scope") if entry.get(name)}
            token = self._fetch(client, extra)
            claims = tokens.claims(token)
        except KeyError as error:
            self._do.missing(check_id, what, f"tresor_site.verify.clients lacks {error}", target)
            return None
        except (IdentityError, tokens.TokenError) as error:
            self._do.missing(check_id, what, str(error), target)
            return None
        seen = f"issued by {claims.get('iss')} for {claims.get('aud')}"
        verdict = (claims.get("iss") == self._identity["issuer"], seen)
        seconds = time.monotonic() - started
        expected = f"a token of {self._identity['issuer']}"
        self._do.add(check_id, what, target, expected=expected, verdict=verdict, seconds=seconds)
        return token

    def _rights(self, token: str) -> Rights:
        groups = tokens.claims(token).get(self._identity["groups_claim"])
        return rights(self._plan, groups if isinstance(groups, list) else [])

    # --- what must work ----------------------------------------------------------------------

    def _serve(self, token: str) -> None:
        held = self._rights(token)
        for endpoint in self._endpoints:
            self._list_models(token, held, endpoint)
        chat = usable(self._plan, held, "chat")
        if not chat:
            self._do.missing(
                "api.chat", "a chat model answers", "the allowed client may use no chat model"
            )
        for model in chat:
            self._chat(token, model.model)
            self._balanced(token, model)
        for model in usable(self._plan, held, "embedding"):
            if "embeddings" in held.endpoints:
                self._embedding(token, model.model)
        for model in usable(self._plan, held, "rerank"):
            if "rerank" in held.endpoints:
                self._rerank(token, model.model)

    def _list_models(self, token: str, held: Rights, endpoint: Endpoint) -> None:
        family = "ipv6" if ":" in endpoint.address else "ipv4"
        others = aliases(self._plan, held.models) | choosers(self._settings.routes, held.models)
        self._do.ask(
            f"api.models.{family}",
            f"the allowed client sees exactly its models over {family}",
            endpoint,
            json_request("GET", MODELS, token),
            expected=f"{sorted(held.models)} and no other (aliases may be listed)",
            verdict=lambda response: judge.model_list(response, held.models, others),
        )

    def _chat(self, token: str, model: str) -> None:
        self._do.ask(
            f"api.chat.{model}",
            "chat answers",
            self._api,
            json_request("POST", CHAT, token, self._chat_body(model)),
            expected="HTTP 200 with a text",
            verdict=judge.chat_answer,
        )
        self._do.ask(
            f"api.stream.{model}",
            "a streamed answer arrives piece by piece",
            self._api,
            json_request("POST", CHAT, token, self._chat_body(model, stream=True), stream=True),
            expected="more than one piece of text with time between, [DONE] at the end",
            verdict=judge.streamed_answer,
        )
        self._do.ask(
            f"api.completions.{model}",
            "text completion answers",
            self._api,
            json_request("POST", COMPLETIONS, token, self._text_body(model)),
            expected="HTTP 200 with a text",
            verdict=judge.text_answer,
        )

    def _embedding(self, token: str, model: str) -> None:
        body = json.dumps({"model": model, "input": "The site is verified."}).encode()
        self._do.ask(
            f"api.embeddings.{model}",
            "embeddings answer",
            self._api,
            json_request("POST", EMBEDDINGS, token, body),
            expected="HTTP 200 with a vector",
            verdict=judge.embedding_answer,
        )

    def _rerank(self, token: str, model: str) -> None:
        documents = ["A list of trees.", "The site is verified."]
        body = json.dumps(
            {"model": model, "query": "Is the site verified?", "documents": documents}
        )
        self._do.ask(
            f"api.rerank.{model}",
            "a reranker answers",
            self._api,
            json_request("POST", RERANK, token, body.encode()),
            expected="HTTP 200 with a score for each document",
            verdict=lambda response: judge.rerank_answer(response, len(documents)),
        )

    def _balanced(self, token: str, model: Replicas) -> None:
        """Ask several times at once; who answered is read from the engines' own counters."""
        if len(model.instances) < 2:
            return
        body = self._chat_body(model.model)
        threads = [
            threading.Thread(
                target=self._do.ask,
                args=(
                    f"api.parallel.{model.model}.{number}",
                    "one of several requests at the same time is answered",
                    self._api,
                    json_request("POST", CHAT, token, body),
                ),
                kwargs={"expected": "HTTP 200 with a text", "verdict": judge.chat_answer},
            )
            for number in range(1, _PER_REPLICA * len(model.instances) + 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.replicas.append(model)

    # --- what must be refused ----------------------------------------------------------------

    def _no_token(self) -> None:
        self._unauthorized("none", "no token", None)
        self._unauthorized("garbage", "a token that is no JWT", "not-a-token")

    def _forgeries(self, token: str) -> None:
        self._unauthorized("resigned", "a token signed by another key", tokens.resigned(token))
        self._unauthorized("unsigned", "a token with algorithm none", tokens.unsigned(token))
        everyone = [rule["group"] for rule in self._plan["access"] if "group" in rule]
        changed = {self._identity["groups_claim"]: everyone, "sub": "verify-tampered"}
        self._unauthorized(
            "tampered", "a token with changed claims", tokens.tampered(token, changed)
        )
        try:
            confused = tokens.signed_with_public_key(token, self._fetch_public_key())
        except (IdentityError, tokens.TokenError) as error:
            self._do.missing(
                "api.refused.confused", "a token signed with the public key", str(error)
            )
            return
        self._unauthorized("confused", "a token signed with the issuer's public key", confused)

    def _wrong_audience(self) -> None:
        token = self._token("wrong_audience")
        if token is None:
            return
        own = self._identity["audience"]
        audience = tokens.claims(token).get("aud")
        if audience == own or (isinstance(audience, list) and own in audience):
            self._do.missing(
                "api.refused.audience",
                "a token for another audience is refused",
                f"the token of verify client wrong_audience is for {own}, the right audience",
            )
            return
        self._unauthorized("audience", "a token for another audience", token)

    def _no_access(self) -> None:
        token = self._token("no_access")
        if token is None:
            return
        if self._rights(token).models:
            self._do.missing(
                "api.refused.group",
                "someone without rights is refused",
                "the verify client no_access holds a group that access.yml gives models to",
            )
            return
        self._do.ask(
            "api.refused.group.models",
            "someone without rights sees no model",
            self._api,
            json_request("GET", MODELS, token),
            expected="HTTP 403, or an empty list",
            verdict=judge.no_models,
        )
        for model in self._plan["models"]:
            if model["task"] == "chat":
                self._refused_model("group", model["name"], token, "someone without rights")

    def _withheld_models(self, token: str) -> None:
        self._refused_model("model", UNKNOWN_MODEL, token, "a model that does not exist")
        held = self._rights(token)
        for name in withheld(self._plan, held):
            self._refused_model("model", name, token, f"the model {name} of other groups")
        if "embeddings" not in held.endpoints:
            body = json.dumps({"model": UNKNOWN_MODEL, "input": "x"}).encode()
            self._refusal(
                "api.refused.endpoint", "an endpoint of other groups", EMBEDDINGS, token, body
            )

    def _refused_model(self, kind: str, model: str, token: str, what: str) -> None:
        body = self._chat_body(model)
        self._refusal(f"api.refused.{kind}.{model}", what, CHAT, token, body)

    def _refusal(self, check_id: str, what: str, path: str, token: str, body: bytes) -> None:
        self._do.ask(
            check_id,
            f"{what}: refused",
            self._api,
            json_request("POST", path, token, body),
            expected="HTTP 403 or 404 in OpenAI's error shape",
            verdict=lambda response: judge.refused(response, _HIDDEN, shaped=True),
        )

    def _unauthorized(self, name: str, what: str, token: str | None) -> None:
        body = self._chat_body(self._plan["models"][0]["name"])
        for method, path, data in (("GET", MODELS, None), ("POST", CHAT, body)):
            self._do.ask(
                f"api.refused.{name}.{method.lower()}",
                f"{what}: refused",
                self._api,
                json_request(method, path, token, data),
                expected="HTTP 401 in OpenAI's error shape",
                verdict=lambda response: judge.refused(response, {401}, shaped=True),
            )

    def _hidden_paths(self, token: str) -> None:
        listed = (*paths.ENGINE_ROUTES, *paths.INNER_ROUTES)
        for method, path in listed:
            self._hidden(method, path, token, _HIDDEN, "HTTP 404 or 403")
        for method, path in paths.DISGUISES:
            self._hidden(method, path, token, _NOT_THERE, "HTTP 400, 403, 404 or 405")

    def _hidden(
        self, method: str, path: str, token: str, statuses: frozenset[int], expected: str
    ) -> None:
        body = b"{}" if method == "POST" else None
        self._do.ask(
            f"api.path.{method}.{path}",
            "a path that is not on the list does not exist outside",
            self._api,
            json_request(method, path, token, body),
            expected=f"{expected}, not from the engine",
            verdict=lambda response: judge.refused(response, statuses, shaped=False),
        )

    # --- expiry ------------------------------------------------------------------------------

    def _fresh(self, token: str) -> None:
        """Show that the token which later is refused for its age is good now."""
        if self._expires(token) - self._now() < _FRESH_MARGIN:
            return  # too short a clock skew to show it reliably; the refusal is checked anyway
        self._do.ask(
            "api.expiry.before",
            "the short-lived token is accepted while it lasts",
            self._api,
            json_request("GET", MODELS, token),
            expected="HTTP 200",
            verdict=lambda response: (response.status == 200, f"HTTP {response.status}"),
        )

    def _expired(self, token: str) -> None:
        left = self._expires(token) + 1 - self._now()
        if left > self._settings.max_wait:
            self._do.missing(
                "api.refused.expired",
                "an expired token: refused",
                f"it expires in {left:.0f} s; max_wait is {self._settings.max_wait:g} s",
            )
            return
        if left > 0:
            self._sleep(left)
        self._unauthorized("expired", "an expired token", token)

    def _expires(self, token: str) -> float:
        """Return when the gateway must stop accepting the token: its end and the clock skew."""
        end = tokens.claims(token).get("exp")
        skew = float(self._identity.get("clock_skew_seconds") or 0)
        return float(end) + skew if isinstance(end, (int, float)) else float("inf")

    # --- TLS ---------------------------------------------------------------------------------

    def _tls_versions(self) -> None:
        target = str(self._api)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            result = tls.handshake(self._api, version, self._settings.ca_file, self._do.timeout)
            name = version.name.replace("_", ".")
            verdict = (result.agreed is not None, result.detail)
            self._do.add(
                f"api.tls.{name}",
                f"{name} is spoken",
                target,
                expected="agreed",
                verdict=verdict,
                seconds=result.seconds,
            )
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            result = tls.handshake(self._api, version, self._settings.ca_file, self._do.timeout)
            name = version.name.replace("_", ".")
            verdict = (result.refused, result.detail)
            self._do.add(
                f"api.tls.{name}",
                f"{name} is refused",
                target,
                expected="the server refuses the handshake",
                verdict=verdict,
                seconds=result.seconds,
            )

    # --- bodies ------------------------------------------------------------------------------

    def _chat_body(self, model: str, *, stream: bool = False) -> bytes:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "Name three colours."}],
            "max_tokens": self._settings.max_tokens,
        }
        if stream:
            body["stream"] = True
        return json.dumps(body).encode()

    def _text_body(self, model: str) -> bytes:
        body = {"model": model, "prompt": "The sky is", "max_tokens": self._settings.max_tokens}
        return json.dumps(body).encode()
