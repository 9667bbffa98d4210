"""The portal's routes: exact methods and paths, each ends in one answer and one record."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.api.errors import ApiError
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.http.exchange import Exchange, Headers
from tresor_gateway.identity.authenticator import Identity
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.portal import cookies, pages
from tresor_gateway.portal.chat import Question, WorkerGoneError, Workers
from tresor_gateway.portal.logins import SECONDS as LOGIN_SECONDS
from tresor_gateway.portal.sessions import Session, Sessions
from tresor_gateway.portal.signin import SignIn
from tresor_gateway.portal.visit import JSON, ProblemError, Visit
from tresor_gateway.usage.table import UsageTable

log = logging.getLogger(__name__)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_STATIC: Final = Path(__file__).parent / "static"
_CHAT: Final = "chat.completions"
_MAX_MESSAGE: Final = 16_000
_UNAUTHORIZED: Final = 401
_OK: Final = 200
Handler = Callable[[Visit], Awaitable[None]]


@dataclass(frozen=True)
class Surroundings:
    """What the page shows and works with."""

    config: schema.Config
    portal: schema.Portal
    sign_in: SignIn
    sessions: Sessions
    usage: UsageTable
    workers: Workers
    audit: AuditWriter
    metrics: GatewayMetrics
    form_targets: tuple[str, ...]
    behind_proxy: bool


class PortalApplication:
    """The application behind the portal's connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, surroundings: Surroundings) -> None:
        self._loop = loop
        self._is = surroundings
        self._origin = surroundings.portal.url.encode()
        self._headers = _security_headers(surroundings.form_targets)
        self._routes: dict[tuple[bytes, bytes], tuple[str, Handler]] = {
            (b"GET", b"/"): ("portal.page", self._page),
            (b"GET", b"/login"): ("portal.login", self._login),
            (b"GET", b"/callback"): ("portal.callback", self._callback),
            (b"POST", b"/logout"): ("portal.logout", self._logout),
            (b"POST", b"/chat"): ("portal.chat", self._chat),
            (b"POST", b"/backchannel-logout"): ("portal.backchannel-logout", self._logged_out),
        }
        self._files = {
            path.encode(): (kind, (_STATIC / Path(path).name).read_bytes())
            for path, kind in (
                (pages.STYLE, b"text/css; charset=utf-8"),
                (pages.SCRIPT, b"text/javascript; charset=utf-8"),
            )
        }
        self._tasks: set[asyncio.Task[None]] = set()

    def adopt(self, config: schema.Config) -> None:
        """Show another configuration's models and rights from now on."""
        values = {name: getattr(self._is, name) for name in Surroundings.__dataclass_fields__}
        self._is = Surroundings(**{**values, "config": config})

    # --- Application --------------------------------------------------------------------------

    def head_received(self, exchange: Exchange) -> ApiError | None:
        """Everything is decided with the whole request; bodies are small here."""
        given = exchange.headers.get(b"x-request-id", b"")
        trusted = self._is.behind_proxy and _REQUEST_ID.fullmatch(given)
        exchange.request_id = given if trusted else uuid7().encode()
        return None

    def request_received(self, exchange: Exchange) -> None:
        """Find the route and run it."""
        path = exchange.target.partition(b"?")[0]
        file = self._files.get(path)
        if file is not None and exchange.method == b"GET":
            exchange.respond(_OK, file[1], self._headers, file[0])
            return
        name, handler = self._routes.get((exchange.method, path), ("unknown", self._unknown))
        visit = self._visit(exchange, name)
        task = self._loop.create_task(self._run(visit, handler))
        exchange.context = (visit, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def request_refused(self, exchange: Exchange, error: ApiError) -> None:
        """A refusal by the protocol."""
        if not exchange.request_id:
            exchange.request_id = uuid7().encode()
        visit = self._visit(exchange, "unknown")
        if self._is.audit.healthy:
            visit.answer(error.status, error.body(), JSON, error.headers, error.reason)
        else:
            visit.without_record(error.status, error.body(), JSON, error.headers)

    def client_gone(self, exchange: Exchange) -> None:
        """Nobody waits for the answer: the worker's work for the chat box ends too."""
        if exchange.context is not None:
            visit, task = exchange.context
            if visit.endpoint == "portal.chat":
                task.cancel()

    # --- running a route --------------------------------------------------------------------------

    def _visit(self, exchange: Exchange, name: str) -> Visit:
        return Visit(exchange, name, self._is.audit, self._is.metrics)

    async def _run(self, visit: Visit, handler: Handler) -> None:
        try:
            if self._is.audit.healthy:
                await handler(visit)
            else:
                self._refuse(visit, ProblemError(503, "audit_unavailable", "audit"), record=False)
        except ProblemError as problem:
            self._refuse(visit, problem)
        except asyncio.CancelledError:
            visit.left()
        except Exception:
            log.exception("request %s", visit.exchange.request_id.decode())
            self._refuse(visit, ProblemError(500, "internal_error", "internal"))

    def _refuse(self, visit: Visit, problem: ProblemError, *, record: bool = True) -> None:
        headers: Headers = self._headers
        if problem.status == _UNAUTHORIZED:
            headers = (*headers, (b"WWW-Authenticate", b'Bearer realm="tresor"'))
        if visit.wants_stream or visit.endpoint == "portal.backchannel-logout":
            text = pages.text(visit.language, problem.page)
            body, kind = _error(problem, text), JSON
        elif problem.page == "session" and visit.endpoint == "portal.page":
            body, kind = pages.signed_out(visit.language), b"text/html; charset=utf-8"
        else:
            body = pages.problem(visit.language, problem.page, sign_in=problem.sign_in)
            kind = b"text/html; charset=utf-8"
        if record:
            visit.answer(problem.status, body, kind, headers, problem.reason)
        else:
            visit.without_record(problem.status, body, kind, headers)

    # --- routes -----------------------------------------------------------------------------------

    async def _page(self, visit: Visit) -> None:
        session, identity = await self._signed_in(visit)
        visit.page(_OK, pages.home(visit.language, self._view(session, identity)), self._headers)

    async def _login(self, visit: Visit) -> None:
        login, target = await self._is.sign_in.begin()
        visit.set_cookies.append(cookies.write(cookies.LOGIN, login.cookie, LOGIN_SECONDS))
        visit.redirect(target)

    async def _callback(self, visit: Visit) -> None:
        visit.set_cookies.append(cookies.delete(cookies.LOGIN))
        session, identity = await self._is.sign_in.finish(
            visit.cookie(cookies.LOGIN), visit.query()
        )
        visit.identity, visit.auth = identity, "code"
        cookie = self._is.sign_in.keep(session, visit.cookie(cookies.SESSION))
        life = int(self._is.portal.session_seconds)
        visit.set_cookies.append(cookies.write(cookies.SESSION, cookie, life))
        visit.redirect("/")

    async def _logout(self, visit: Visit) -> None:
        form = self._own_form(visit)
        session = self._session(visit)
        self._check_csrf(visit, session, form)
        visit.subject = self._is.sign_in.pseudonym(session.subject)
        visit.auth = "session"
        target = self._is.sign_in.out(visit.cookie(cookies.SESSION))
        visit.set_cookies.append(cookies.delete(cookies.SESSION))
        visit.redirect(target)

    async def _logged_out(self, visit: Visit) -> None:
        token = visit.form().get("logout_token", "")
        try:
            logout = await self._is.sign_in.logged_out(token)
        except ProblemError as problem:
            if problem.status < 500:
                problem.status = 400
            raise
        if logout.subject is not None:
            visit.subject = self._is.sign_in.pseudonym(logout.subject)
        visit.auth = "logout_token"
        visit.answer(_OK, b"", JSON)

    async def _chat(self, visit: Visit) -> None:
        form = self._own_form(visit)
        session, identity = await self._signed_in(visit)
        self._check_csrf(visit, session, form)
        model, message = form.get("model", ""), form.get("message", "")
        if not model or not message or len(message) > _MAX_MESSAGE:
            raise ProblemError(400, "bad_request", "request")
        question = Question(
            model, message, session.access_token, visit.exchange.request_id, visit.wants_stream
        )
        try:
            reply = await self._is.workers.ask(question, visit.exchange)
        except WorkerGoneError as error:
            log.warning("chat: %s", error)
            raise ProblemError(503, "upstream_unavailable", "busy") from error
        if reply.status == _UNAUTHORIZED:
            self._forget(visit)
        if question.stream:
            visit.passed_on(reply.status, reply.body, JSON, self._headers)
            return
        answer, problem = _texts(reply.body)
        tried = pages.Exchange(model, message, answer, problem)
        body = pages.home(visit.language, self._view(session, identity, tried))
        visit.passed_on(reply.status, body, b"text/html; charset=utf-8", self._headers)

    async def _unknown(self, visit: Visit) -> None:
        raise ProblemError(404, "unknown_path", "path")

    # --- sessions -------------------------------------------------------------------------------

    def _session(self, visit: Visit) -> Session:
        session = self._is.sessions.find(visit.cookie(cookies.SESSION))
        if session is None:
            raise ProblemError(_UNAUTHORIZED, "session_missing", "session", sign_in=True)
        return session

    async def _signed_in(self, visit: Visit) -> tuple[Session, Identity]:
        session = self._session(visit)
        visit.auth = "session"
        try:
            identity = await self._is.sign_in.identity(session.access_token)
        except ProblemError as problem:
            if problem.status < 500:
                self._forget(visit)
                problem = ProblemError(_UNAUTHORIZED, problem.reason, "session", sign_in=True)
            raise problem from None
        visit.identity = identity
        return session, identity

    def _forget(self, visit: Visit) -> None:
        """The session's token is not good any more."""
        self._is.sessions.end(visit.cookie(cookies.SESSION))
        visit.set_cookies.append(cookies.delete(cookies.SESSION))

    def _own_form(self, visit: Visit) -> dict[str, str]:
        """A form that one of our own pages posted, as far as the browser says where it is from."""
        headers = visit.exchange.headers
        if headers.get(b"origin", self._origin) != self._origin or headers.get(
            b"sec-fetch-site", b"same-origin"
        ) not in (b"same-origin", b"none"):
            raise ProblemError(403, "form_foreign", "form")
        return visit.form()

    def _check_csrf(self, visit: Visit, session: Session, form: dict[str, str]) -> None:
        if not session.csrf_fits(form.get("csrf", "")):
            visit.auth = "session"
            raise ProblemError(403, "form_foreign", "form")

    # --- the page -----------------------------------------------------------------------------

    def _view(
        self, session: Session, identity: Identity, tried: pages.Exchange | None = None
    ) -> pages.View:
        grant, config = identity.grant, self._is.config
        usable: dict[str, list[str]] = {}
        for endpoint, model in sorted(grant.pairs):
            if endpoint != "models":
                usable.setdefault(model, []).append(endpoint)
        chat = [model for model, endpoints in sorted(usable.items()) if _CHAT in endpoints]
        counted = self._is.usage.used(identity.subject)
        limited = {
            name: count for name, count in counted.items() if grant.limits.counted and count >= 0
        }
        return pages.View(
            name=session.name,
            groups=grant.groups,
            until=session.expires,
            models=dict(sorted(usable.items())),
            chat_models=(*_routes(config, chat), *chat),
            limits=grant.limits,
            used=limited,
            issuer=config.identity.issuer,
            audience=config.identity.audience,
            base_url=self._is.portal.url,
            csrf=session.csrf,
            tried=tried,
        )


def _routes(config: schema.Config, models: Iterable[str]) -> list[str]:
    """Names that lead to one of these models."""
    mine = set(models)
    return [
        route.name
        for route in config.routes
        if mine.intersection((route.default, *(rule.model for rule in route.rules)))
    ]


def _texts(body: bytes) -> tuple[str, str]:
    """Answer and problem in a worker's answer to a question that wanted no stream."""
    try:
        found = msgspec.json.decode(body)
        if "error" in found:
            return "", str(found["error"]["message"])
        return str(found["choices"][0]["message"]["content"] or ""), ""
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError):
        return "", "?"


def _error(problem: ProblemError, text: str) -> bytes:
    error = {"message": text, "type": "invalid_request_error", "param": None}
    return msgspec.json.encode({"error": {**error, "code": problem.reason}})


def _security_headers(form_targets: tuple[str, ...]) -> Headers:
    targets = " ".join(("'self'", *form_targets))
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        f"form-action {targets}; frame-ancestors 'none'; "
        "base-uri 'none'; require-trusted-types-for 'script'"
    )
    return (
        (b"Content-Security-Policy", policy.encode()),
        # Not no-referrer: browsers would then send no usable Origin with our own forms.
        (b"Referrer-Policy", b"same-origin"),
        (b"X-Frame-Options", b"DENY"),
        (b"Cross-Origin-Opener-Policy", b"same-origin"),
        (b"Cross-Origin-Resource-Policy", b"same-origin"),
        (b"Vary", b"Accept-Language, Cookie"),
    )
