"""The page's words, in the languages it speaks."""

from __future__ import annotations

from typing import Final

DEFAULT: Final = "en"
_EN: Final = {
    "title": "Language models",
    "sign_in": "Sign in",
    "sign_out": "Sign out",
    "signed_out": "You are not signed in.",
    "signed_out_more": "Sign in with your company account to see what you may use.",
    "who": "Who you are",
    "name": "Name",
    "groups": "Groups with rights here",
    "none": "none",
    "until": "Signed in until",
    "models": "Models you may use",
    "model": "Model",
    "endpoints": "Endpoints",
    "no_models": "None of your groups may use a model. Ask the operators of this platform.",
    "limits": "Your limits",
    "limit": "Limit",
    "value": "Value",
    "used": "Used",
    "no_limit": "no limit",
    "requests_per_minute": "Requests per minute",
    "tokens_per_minute": "Tokens per minute",
    "concurrent_streams": "Streams at a time",
    "context_tokens": "Tokens of one request",
    "daily_tokens": "Tokens per day (UTC)",
    "usage_note": "Only what has a limit is counted.",
    "usage_per_gateway": "Each gateway counts for itself.",
    "api": "How to call the API",
    "api_more": (
        "The API is OpenAI's. Get an access token from the identity provider "
        "and use it as the API key:"
    ),
    "provider": "Identity provider",
    "audience": "Audience of the token",
    "chat": "Try it",
    "chat_note": "Your text passes the same rules, limits and records as every call of the API.",
    "message": "Your message",
    "send": "Send",
    "stop": "Stop",
    "answer": "Answer",
    "failed": "That did not work",
    "back": "Back to the page",
    "again": "Try again",
    "problem_state": (
        "This login was not begun in this browser, took too long, or was already used."
    ),
    "problem_provider": (
        "The identity provider cannot be reached at the moment, so nobody can sign in. "
        "Who is signed in stays signed in."
    ),
    "problem_denied": "The identity provider did not sign you in.",
    "problem_token": "The identity provider's answer was not accepted.",
    "problem_full": "Too many people are signed in. Try again later.",
    "problem_form": "The form does not belong to this session. Load the page again.",
    "problem_session": "You are not signed in any more.",
    "problem_path": "This page does not exist.",
    "problem_internal": "Something failed here. Try again later.",
    "problem_audit": "Decisions cannot be recorded at the moment, so nothing is decided.",
    "problem_request": "The request is not valid.",
    "problem_busy": "The gateway cannot be reached. Try again later.",
}
_DE: Final = {
    "title": "Sprachmodelle",
    "sign_in": "Anmelden",
    "sign_out": "Abmelden",
    "signed_out": "Sie sind nicht angemeldet.",
    "signed_out_more": (
        "Melden Sie sich mit Ihrem Firmenkonto an, um zu sehen, was Sie nutzen dürfen."
    ),
    "who": "Wer Sie sind",
    "name": "Name",
    "groups": "Gruppen mit Rechten hier",
    "none": "keine",
    "until": "Angemeldet bis",
    "models": "Modelle, die Sie nutzen dürfen",
    "model": "Modell",
    "endpoints": "Endpunkte",
    "no_models": (
        "Keine Ihrer Gruppen darf ein Modell nutzen. Fragen Sie die Betreiber dieser Plattform."
    ),
    "limits": "Ihre Grenzen",
    "limit": "Grenze",
    "value": "Wert",
    "used": "Verbraucht",
    "no_limit": "keine Grenze",
    "requests_per_minute": "Anfragen je Minute",
    "tokens_per_minute": "Token je Minute",
    "concurrent_streams": "Gleichzeitige Antworten",
    "context_tokens": "Token einer Anfrage",
    "daily_tokens": "Token je Tag (UTC)",
    "usage_note": "Gezählt wird nur, was eine Grenze hat.",
    "usage_per_gateway": "Jedes Gateway zählt für sich.",
    "api": "So rufen Sie die API auf",
    "api_more": (
        "Die API ist die von OpenAI. Holen Sie ein Zugriffstoken vom Identitätsdienst "
        "und verwenden Sie es als API-Schlüssel:"
    ),
    "provider": "Identitätsdienst",
    "audience": "Empfänger (audience) des Tokens",
    "chat": "Ausprobieren",
    "chat_note": (
        "Für Ihren Text gelten dieselben Regeln, Grenzen und Aufzeichnungen wie für die API."
    ),
    "message": "Ihre Nachricht",
    "send": "Senden",
    "stop": "Anhalten",
    "answer": "Antwort",
    "failed": "Das ging nicht",
    "back": "Zurück zur Seite",
    "again": "Erneut versuchen",
    "problem_state": (
        "Diese Anmeldung wurde nicht in diesem Browser begonnen, dauerte zu lange "
        "oder wurde schon benutzt."
    ),
    "problem_provider": (
        "Der Identitätsdienst ist zurzeit nicht erreichbar, daher kann sich niemand anmelden. "
        "Wer angemeldet ist, bleibt es."
    ),
    "problem_denied": "Der Identitätsdienst hat Sie nicht angemeldet.",
    "problem_token": "Die Antwort des Identitätsdienstes wurde nicht angenommen.",
    "problem_full": "Es sind zu viele angemeldet. Versuchen Sie es später erneut.",
    "problem_form": "Das Formular gehört nicht zu dieser Sitzung. Laden Sie die Seite neu.",
    "problem_session": "Sie sind nicht mehr angemeldet.",
    "problem_path": "Diese Seite gibt es nicht.",
    "problem_internal": "Hier ist etwas fehlgeschlagen. Versuchen Sie es später erneut.",
    "problem_audit": (
        "Entscheidungen können zurzeit nicht aufgezeichnet werden, daher wird keine getroffen."
    ),
    "problem_request": "Die Anfrage ist ungültig.",
    "problem_busy": "Das Gateway ist nicht erreichbar. Versuchen Sie es später erneut.",
}
TEXTS: Final = {"en": _EN, "de": _DE}


def choose(accept_language: bytes | None) -> str:
    """The language of ours that an Accept-Language header likes best."""
    best, liked = DEFAULT, 0.0
    for item in (accept_language or b"")[:1000].decode("latin-1").split(","):
        tag, _, parameter = item.strip().partition(";")
        language = tag.partition("-")[0].lower()
        quality = _quality(parameter.strip())
        if language in TEXTS and quality > liked:
            best, liked = language, quality
    return best


def _quality(parameter: str) -> float:
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        number = float(value) if name == "q" else 0.0
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0
