"""A browser without JavaScript on company1: signs in and uses the page; prints what it saw as JSON.

Usage: portal_client.py, with the tasks as a JSON list on standard input, done in one browser:
["open", ADDRESS], ["sign-in", USER], ["chat", MODEL, MESSAGE], ["chat-without-token", MODEL],
["foreign-state"], ["end-at-provider"].
"""

from __future__ import annotations

import html.parser
import http.cookiejar
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

URL = "https://llm.site.example"
PROVIDER = "https://idp.company.example"
TRUSTED = "/etc/company/trusted.pem"
CREDENTIALS = Path("/etc/company/credentials.json")
TIMEOUT_SECONDS = 90


class Forms(html.parser.HTMLParser):
    """The forms of a page: where they go and the fields that are filled in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect one element."""
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((found.get("action", ""), {}))
        elif tag == "input" and self.forms and "name" in found:
            self.forms[-1][1][found["name"]] = found.get("value", "")


class StopAtRedirect(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""
        return


class Browser:
    """Keeps cookies and remembers where it is."""

    def __init__(self) -> None:
        context = ssl.create_default_context(cafile=TRUSTED)
        self.cookies = http.cookiejar.CookieJar()
        parts = [
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(self.cookies),
        ]
        self._opener = urllib.request.build_opener(*parts)
        self._still = urllib.request.build_opener(*parts, StopAtRedirect)
        self.url, self.text, self.status = URL, "", 0

    def ask(
        self, url: str, form: dict[str, str] | None = None, *, follow: bool = True
    ) -> dict[str, Any]:
        """Load an address, with a form as POST; what came back."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        target = urllib.parse.urljoin(self.url, url)
        request = urllib.request.Request(target, data)  # noqa: S310 - https, our own addresses
        opener = self._opener if follow else self._still
        try:
            answer = opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.url, self.status = answer.geturl(), answer.status
            self.text = answer.read().decode()
            headers = dict(answer.headers.items())
        return {"url": self.url, "status": self.status, "text": self.text, "headers": headers}

    def form(self, action: str) -> dict[str, str]:
        """The filled-in fields of the form that goes to an address."""
        for target, fields in Forms(self.text).forms:
            if action in target:
                return fields
        raise SystemExit(f"no form to {action} at {self.url}: {self.text[:500]}")

    def sign_in(self, user: str) -> dict[str, Any]:
        """From the page over the provider back to the page."""
        self.ask(f"{URL}/login")
        secret = json.loads(CREDENTIALS.read_text())["entries"][user]["secret"]
        [(action, _)] = Forms(self.text).forms
        return self.ask(action, {"login": user, "password": secret})


def run(browser: Browser, task: list[str]) -> dict[str, Any]:
    """Do one task."""
    name, *rest = task
    if name == "open":
        return browser.ask(URL + rest[0])
    if name == "sign-in":
        return browser.sign_in(rest[0])
    if name in ("chat", "chat-without-token"):
        browser.ask(f"{URL}/")
        fields = browser.form("/chat") if name == "chat" else {}
        message = rest[1] if len(rest) > 1 else "Hello"
        return browser.ask(f"{URL}/chat", fields | {"model": rest[0], "message": message})
    if name == "foreign-state":
        # Somebody else's login, finished in this browser, which has begun one of its own.
        other = Browser()
        begun = other.ask(f"{URL}/login", follow=False)
        query = urllib.parse.urlsplit(begun["headers"]["Location"]).query
        [state] = urllib.parse.parse_qs(query)["state"]
        browser.ask(f"{URL}/login", follow=False)
        return browser.ask(f"{URL}/callback?code=x&state={state}")
    if name == "end-at-provider":
        browser.ask(f"{PROVIDER}/session/end")
        [(action, fields)] = Forms(browser.text).forms
        return browser.ask(action, fields | {"logout": "yes"})
    raise SystemExit(f"unknown task {name}")


def main() -> None:
    """Run all tasks and print their results."""
    browser = Browser()
    print(json.dumps([run(browser, task) for task in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
