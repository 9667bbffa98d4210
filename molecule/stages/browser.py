"""Stage browser: a real Chromium at the company uses the page of the converged lab.

It runs on this machine, in company1's network, with the lab's names only. Its picture of the page
is kept in build/portal.png.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from typing import Any, Final

from lab.settings import Settings
from lab.topology import API_NAME, COMPANY1, IDP_NAME
from stages.ask import MODEL
from stages.chromium import Browser, BrowserError
from stages.shell import BUILD, StageError, on_host, output

URL: Final = f"https://{API_NAME}"
_SEND: Final = "#chat-form button:not([type])"
_ANSWER: Final = "document.querySelector('#chat-answer').textContent"
_TRUST: Final = """
cat /etc/company/ca.pem - > /etc/company/trusted.new
if ! cmp -s /etc/company/trusted.new /etc/company/trusted.pem; then
    mv /etc/company/trusted.new /etc/company/trusted.pem
    systemctl restart company-idp
fi
for attempt in $(seq 60); do company-token batch >/dev/null 2>&1 && exit 0; sleep 0.5; done
exit 1
"""


def main() -> None:
    """Go the whole way twice, with and without JavaScript.

    Raises:
        StageError: the page did not show or do what it should.
    """
    trust_site()
    secret = _credentials()["alice"]["secret"]
    try:
        with _browser() as browser:
            _with_scripts(browser, secret)
        with _browser(scripts=False) as browser:
            _without_scripts(browser, secret)
    except BrowserError as error:
        raise StageError(f"browser: {error}") from error
    print("browser: the page works with and without JavaScript", flush=True)


def trust_site() -> None:
    """Let the company's identity provider know the site's CA: it calls the gateway at logouts."""
    ca = output(on_host("bastion", "cat", "/etc/tresor/pki/ca.crt"), what="read the site CA")
    done = subprocess.run(on_host("company1", "sh", "-euc", _TRUST), input=ca.encode(), check=False)
    if done.returncode:
        raise StageError("browser: the identity provider does not come back")


def _with_scripts(browser: Browser, secret: str) -> None:
    browser.open(f"{URL}/")
    _expect(browser, "document.querySelector('#chat-form') === null", "page without sign-in")
    _sign_in(browser, secret)
    _expect(browser, "document.cookie === ''", "cookies that scripts cannot see")
    cookie = {c["name"]: c for c in browser.cookies()}["__Host-tresor-session"]
    if not (cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax"):
        raise StageError(f"browser: the session's cookie is {cookie}")
    browser.write("[name=message]", "Count from one to ten in words.")
    browser.click(_SEND)
    lengths: set[int] = set()
    end = time.monotonic() + 90
    while time.monotonic() < end:
        lengths.add(int(browser.evaluate(f"{_ANSWER}.length")))
        if browser.evaluate("document.querySelector('#chat-stop').hidden") and max(lengths) > 0:
            break
        time.sleep(0.02)
    lengths.discard(0)
    _expect(browser, "!document.querySelector('#chat-answer.problem')", "an answer")
    if len(lengths) < 3:
        raise StageError(f"browser: the answer did not come piece by piece: lengths {lengths}")
    BUILD.mkdir(exist_ok=True)
    picture = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
    (BUILD / "portal.png").write_bytes(base64.b64decode(picture))
    _expect_no_violations(browser)
    cookies = [f"{c['name']}={c['value']}" for c in browser.cookies() if "tresor" in c["name"]]
    browser.click("header button")
    browser.wait(f"location.host === '{IDP_NAME}' && document.querySelector('[name=logout]')")
    browser.click("[name=logout]")
    browser.wait(f"location.href === '{URL}/' && !document.querySelector('#chat-form')")
    for pair in cookies:
        name, _, value = pair.partition("=")
        browser.call("Network.setCookie", url=URL, name=name, value=value, path="/", secure=True)
    browser.open(f"{URL}/")
    _expect(browser, "document.querySelector('#chat-form') === null", "a dead session")


def _without_scripts(browser: Browser, secret: str) -> None:
    browser.open(f"{URL}/")
    _sign_in(browser, secret)
    browser.write("[name=message]", "Say hello.")
    browser.click(_SEND)
    browser.wait(f"location.pathname === '/chat' && {_ANSWER}.length > 1", 90)
    _expect(browser, "!document.querySelector('#chat-answer.problem')", "an answer")
    # Another site's page cannot speak for this browser: its form lacks the session's token.
    browser.evaluate("document.querySelector('#chat-form [name=csrf]').value = 'x'")
    browser.write("[name=message]", "Say hello.")
    browser.click(_SEND)
    browser.wait("document.querySelector('#chat-form') === null")


def _sign_in(browser: Browser, secret: str) -> None:
    browser.click("a.button")
    browser.wait(f"location.host === '{IDP_NAME}' && document.querySelector('[name=password]')")
    browser.write("[name=login]", "alice")
    browser.write("[name=password]", secret)
    browser.click("button")
    browser.wait(f"location.href === '{URL}/' && document.querySelector('#chat-form')")
    _expect(browser, "document.body.innerText.includes('Alice Example')", "the person's name")
    _expect(browser, f"document.body.innerText.includes('{MODEL}')", "the model")


def _expect(browser: Browser, expression: str, what: str) -> None:
    if not browser.evaluate(f"Boolean({expression})"):
        shown = browser.evaluate("document.body.innerText")
        raise StageError(f"browser: expected {what}; the page shows: {shown[:1000]!r}")


def _expect_no_violations(browser: Browser) -> None:
    """The page obeys its own policy: nothing of it was blocked."""
    found = browser.told(
        "Audits.issueAdded",
        lambda told: told["issue"]["code"] == "ContentSecurityPolicyIssue",
    )
    if found:
        raise StageError(f"browser: the page breaks its own policy: {json.dumps(found)[:1000]}")


def _browser(*, scripts: bool = True) -> Browser:
    settings = Settings.from_environment(os.environ, None)
    return Browser(
        ["nsenter", f"--net={settings.host(COMPANY1).netns}"],
        hosts={API_NAME: _address(API_NAME), IDP_NAME: _address(IDP_NAME)},
        trusted_keys=[
            _key("gateway1", "/etc/tresor/pki/host.crt"),
            _key("company1", "/etc/company-idp/tls.pem"),
        ],
        scripts=scripts,
    )


def _address(name: str) -> str:
    line = output(on_host("company1", "getent", "ahostsv4", name), what=f"address of {name}")
    return line.split()[0]


def _key(host: str, path: str) -> str:
    """SHA-256 of a certificate's public key, base64."""
    command = f"openssl x509 -in {path} -noout -pubkey | openssl pkey -pubin -outform DER"
    encoded = output(
        on_host(host, "sh", "-euc", f"{command} | base64 -w0"), what=f"key of {path} on {host}"
    )
    return base64.b64encode(hashlib.sha256(base64.b64decode(encoded)).digest()).decode()


def _credentials() -> dict[str, Any]:
    text = output(on_host("company1", "cat", "/etc/company/credentials.json"), what="passwords")
    entries: dict[str, Any] = json.loads(text)["entries"]
    return entries
