"""A real browser without a screen, driven over a pipe by the DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_ANSWER_SECONDS: Final = 30.0
_WAIT_SECONDS: Final = 30.0
_BUFFER: Final = 1 << 16


class BrowserError(Exception):
    """The browser did not start, went away, or did not show in time what was waited for."""


class Browser:
    """One Chromium with an empty profile and one tab."""

    def __init__(
        self,
        prefix: Sequence[str] = (),
        *,
        hosts: Mapping[str, str] | None = None,
        trusted_keys: Sequence[str] = (),
        options: Sequence[str] = (),
        scripts: bool = True,
    ) -> None:
        """Start it behind the command ``prefix`` (to enter a network namespace).

        ``hosts`` maps names to addresses; every other name does not resolve. ``trusted_keys`` are
        SHA-256 hashes (base64) of public keys whose certificates are taken for good.

        Raises:
            BrowserError: there is no Chromium, or it does not start.
        """
        program = shutil.which("chromium")
        if program is None:
            raise BrowserError("there is no chromium here: apt-get install chromium")
        self._profile = tempfile.TemporaryDirectory(prefix="tresor-browser-")
        rules = [f"MAP {name} {address}" for name, address in (hosts or {}).items()]
        command = [
            *prefix,
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}",
            f"--host-resolver-rules={', '.join([*rules, 'MAP * ~NOTFOUND'])}",
            *(
                [f"--ignore-certificate-errors-spki-list={','.join(trusted_keys)}"]
                * bool(trusted_keys)
            ),
            *options,
            "about:blank",
        ]
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser reads commands at descriptor 3 and writes answers to descriptor 4.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._log = Path(self._profile.name) / "stderr"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, "browser", *command],
                pass_fds=(to_browser, from_browser),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self._read, False)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        """What the browser told by itself: console messages, violations, responses."""
        [page] = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.call(f"{domain}.enable")
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and forget its profile."""
        for descriptor in (self._write, self._read):
            os.close(descriptor)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile.name, ignore_errors=True)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Send a command and return its result.

        Raises:
            BrowserError: it is refused, or there is no answer.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < end:
            for answer in self._messages():
                if answer.get("id") == self._number:
                    if "error" in answer:
                        raise BrowserError(f"{method}: {answer['error']['message']}")
                    result: dict[str, Any] = answer["result"]
                    return result
        raise BrowserError(f"{method}: no answer; {self._last_words()}")

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - JSON
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails']['text']}")
        return found["result"].get("value")

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.wait("document.readyState === 'complete'")

    def wait(self, expression: str, seconds: float = _WAIT_SECONDS) -> None:
        """Wait until an expression is true.

        Raises:
            BrowserError: it is not in time; says what the page shows instead.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.evaluate(f"Boolean({expression})"):
                    return
            except BrowserError:
                # The page is changing: look again.
                pass
            time.sleep(0.05)
        where = self.evaluate("location.href + ' ' + document.body.innerText")
        raise BrowserError(f"not in {seconds:.0f} s: {expression}; the page is {where!r}")

    def click(self, selector: str) -> None:
        """Click as a person does: at the place where the element is seen."""
        quoted = json.dumps(selector)
        self.wait(f"document.querySelector({quoted}) !== null")
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({quoted}); e.scrollIntoView();"
            "const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        quoted = json.dumps(selector)
        self.wait(f"document.querySelector({quoted}) !== null")
        self.evaluate(f"document.querySelector({quoted}).focus()")
        self.call("Input.insertText", text=text)

    def cookies(self) -> list[dict[str, Any]]:
        """All cookies of the profile, those that scripts cannot see among them."""
        found: list[dict[str, Any]] = self.call("Network.getAllCookies")["cookies"]
        return found

    def told(self, method: str, fits: Callable[[dict[str, Any]], bool] = bool) -> list[Any]:
        """Parameters of the events of a kind so far."""
        list(self._messages())
        return [e["params"] for e in self.events if e.get("method") == method and fits(e["params"])]

    def _messages(self) -> list[dict[str, Any]]:
        try:
            data = os.read(self._read, _BUFFER)
        except BlockingIOError:
            time.sleep(0.01)
            return []
        if not data:
            raise BrowserError(f"the browser went away; {self._last_words()}")
        *whole, self._rest = (self._rest + data).split(b"\0")
        messages: list[dict[str, Any]] = [json.loads(text) for text in whole]
        self.events += [message for message in messages if "id" not in message]
        return messages

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-500:]
