"""The page as HTML: everything that comes from outside is escaped, nothing is inline."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final

from tresor_gateway.portal.texts import TEXTS
from tresor_gateway.usage.limits import NAMES, Limits

STYLE: Final = "/static/portal.css"
SCRIPT: Final = "/static/portal.js"


@dataclass(frozen=True)
class Exchange:
    """What was tried in the chat box, and what came of it."""

    model: str
    message: str
    answer: str = ""
    problem: str = ""


@dataclass(frozen=True)
class View:
    """All that the page of somebody who is signed in shows. ``until`` is Unix seconds."""

    name: str
    groups: tuple[str, ...]
    until: float
    models: Mapping[str, Iterable[str]]
    chat_models: tuple[str, ...]
    limits: Limits
    used: Mapping[str, int]
    issuer: str
    audience: str
    base_url: str
    csrf: str = field(repr=False)
    tried: Exchange | None = None


def signed_out(language: str) -> bytes:
    """The page for somebody we do not know."""
    say = TEXTS[language]
    return _document(
        language,
        f"<h1>{say['title']}</h1><p>{say['signed_out']} {say['signed_out_more']}</p>"
        f'<p><a class="button" href="/login">{say["sign_in"]}</a></p>',
    )


def problem(language: str, which: str, *, sign_in: bool = False) -> bytes:
    """A page that says what went wrong; ``which`` is a key of the texts without ``problem_``."""
    say = TEXTS[language]
    link = ("/login", say["again"]) if sign_in else ("/", say["back"])
    return _document(
        language,
        f"<h1>{say['failed']}</h1><p>{say[f'problem_{which}']}</p>"
        f'<p><a class="button" href="{link[0]}">{link[1]}</a></p>',
    )


def text(language: str, which: str) -> str:
    """The words of a problem alone."""
    return TEXTS[language][f"problem_{which}"]


def home(language: str, view: View) -> bytes:
    """The page of somebody who is signed in."""
    say = TEXTS[language]
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(view.until))
    who = _list(
        (say["name"], escape(view.name)),
        (say["groups"], escape(", ".join(view.groups)) or say["none"]),
        (say["until"], until),
    )
    return _document(
        language,
        f'<header><h1>{say["title"]}</h1><form method="post" action="/logout">{_csrf(view)}'
        f"<button>{say['sign_out']}</button></form></header>"
        f"<section><h2>{say['who']}</h2>{who}</section>"
        f"<section><h2>{say['models']}</h2>{_models(say, view)}</section>"
        f"<section><h2>{say['limits']}</h2>{_limits(say, view)}</section>"
        f"{_chat(say, view)}"
        f"<section><h2>{say['api']}</h2>{_api(say, view)}</section>",
        script=True,
    )


# --- parts ------------------------------------------------------------------------------------


def _document(language: str, body: str, *, script: bool = False) -> bytes:
    tag = f'<script src="{SCRIPT}" defer></script>' if script else ""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TEXTS[language]['title']}</title>"
        f'<link rel="stylesheet" href="{STYLE}">{tag}</head>'
        f"<body><main>{body}</main></body></html>"
    ).encode()


def _csrf(view: View) -> str:
    return f'<input type="hidden" name="csrf" value="{escape(view.csrf)}">'


def _list(*pairs: tuple[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in pairs)}</dl>"


def _models(say: Mapping[str, str], view: View) -> str:
    if not view.models:
        return f"<p>{say['no_models']}</p>"
    rows = "".join(
        f"<tr><td>{escape(model)}</td><td>{escape(', '.join(endpoints))}</td></tr>"
        for model, endpoints in view.models.items()
    )
    return (
        f"<table><thead><tr><th>{say['model']}</th><th>{say['endpoints']}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _limits(say: Mapping[str, str], view: View) -> str:
    rows = ""
    for name in NAMES:
        value, used = getattr(view.limits, name), view.used.get(name)
        bound = say["no_limit"] if value is None else _number(value)
        count = "" if used is None else _number(used)
        rows += f'<tr><td>{say[name]}</td><td>{bound}</td><td id="used-{name}">{count}</td></tr>'
    return (
        f"<table><thead><tr><th>{say['limit']}</th><th>{say['value']}</th>"
        f"<th>{say['used']}</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{say['usage_note']} {say['usage_per_gateway']}</p>"
    )


def _number(value: int) -> str:
    # Groups apart by a thin space, which every language reads the same.
    return f"{value:,}".replace(",", "\u202f")


def _chat(say: Mapping[str, str], view: View) -> str:
    if not view.chat_models:
        return ""
    tried = view.tried or Exchange(view.chat_models[0], "")
    options = "".join(
        f"<option{' selected' if model == tried.model else ''}>{escape(model)}</option>"
        for model in view.chat_models
    )
    shown = "" if tried.answer or tried.problem else " hidden"
    failed = ' class="problem"' if tried.problem else ""
    return (
        f'<section id="chat"><h2>{say["chat"]}</h2><p>{say["chat_note"]}</p>'
        f'<form method="post" action="/chat" id="chat-form">{_csrf(view)}'
        f'<label>{say["model"]} <select name="model">{options}</select></label>'
        f'<label>{say["message"]} <textarea name="message" rows="4" maxlength="16000" required>'
        f"\n{escape(tried.message)}</textarea></label>"
        f'<button>{say["send"]}</button> <button type="button" id="chat-stop" hidden>'
        f"{say['stop']}</button></form>"
        f'<div id="chat-result"{shown}><h3>{say["answer"]}</h3>'
        f'<pre id="chat-answer"{failed} aria-live="polite">'
        f"\n{escape(tried.answer or tried.problem)}</pre></div></section>"
    )


def _api(say: Mapping[str, str], view: View) -> str:
    model = view.chat_models[0] if view.chat_models else "MODEL"
    curl = (
        f"curl {view.base_url}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
    python = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{view.base_url}/v1", api_key=token)\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{model}", messages=[{{"role": "user", "content": "Hello"}}]\n)\n'
        "print(answer.choices[0].message.content)"
    )
    facts = _list((say["provider"], escape(view.issuer)), (say["audience"], escape(view.audience)))
    return (
        f"{facts}<p>{say['api_more']}</p><pre>\n{escape(curl)}</pre><pre>\n{escape(python)}</pre>"
    )
