"""Look at and change the running rules of this host.

Every change is armed first: a timer of systemd puts the previous rules back unless the change is
confirmed. The confirming side is `/usr/local/sbin/tresor-firewall`, which shares the paths below
with this file.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .render import render, render_open, render_tracking
from .rule import FAMILIES, Rule
from .saved import filter_table, foreign_remarks, foreign_tables

Run = Callable[[list[str], str | None], tuple[int, str, str]]
"""Runs a command with a text as its input; returns exit status, output and error output."""

CONFIG_DIR: Final = Path("/etc/tresor/firewall")
RUNTIME_DIR: Final = Path("/run/tresor-firewall")
PENDING: Final = "pending"
HELPER: Final = "/usr/local/sbin/tresor-firewall"
ROLLBACK_UNIT: Final = "tresor-firewall-rollback"
ROLLBACK_RETRY_SECONDS: Final = 10
"""Wait between attempts: a rollback that failed is tried until it works. Longer than what systemd's
limit of five starts in ten seconds would stop."""
UNIT_DIR: Final = Path("/etc/systemd/system")
OTHER_FIREWALLS: Final = ("firewalld", "netfilter-persistent", "nftables", "ufw")
TOOLS: Final[Mapping[str, str]] = {"ipv4": "iptables", "ipv6": "ip6tables"}
FILES: Final[Mapping[str, str]] = {"ipv4": "v4", "ipv6": "v6"}


class FirewallError(Exception):
    """The rules cannot be looked at or changed: says what failed and what to do."""


@dataclass(frozen=True)
class State:
    """What is, and what should be, in one family; texts are filter tables without counters."""

    live: str
    wanted: str
    text: str
    """The wanted rules as the file holds them."""


@dataclass(frozen=True)
class Applied:
    """Rules that are loaded and wait for their confirmation."""

    token: str
    rollback_seconds: int


class HostFirewall:
    """The firewall of this host, reached through the given way to run commands."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def available(self) -> bool:
        """Return whether iptables is installed."""
        return any((Path(folder) / "iptables").exists() for folder in _PATH)

    def refuse_others(self) -> None:
        """Raise FirewallError if something else on the host manages packet filters."""
        names = [f"{name}.service" for name in OTHER_FIREWALLS]
        _, out, _ = self._run(["systemctl", "is-active", *names], None)
        states = zip(OTHER_FIREWALLS, out.splitlines(), strict=False)
        active = [name for name, state in states if state.strip() == "active"]
        if active:
            raise FirewallError(
                f"another firewall is active on this host: {', '.join(active)}. Tresor's rules "
                f"would be mixed with it. Run `systemctl disable --now {' '.join(active)}`, "
                "then start again."
            )
        for family in FAMILIES:
            saved = self._save(family)
            foreign = [f"table {name}" for name in foreign_tables(saved)]
            foreign += foreign_remarks(saved)
            if foreign:
                raise FirewallError(
                    f"rules that are not Tresor's were found in {TOOLS[family]}-save: "
                    f"{'; '.join(foreign)}. Find out who wrote them and remove them, then start "
                    "again."
                )

    def unmasked(self) -> list[str]:
        """Return the units of other firewalls that could still be started."""
        return [
            name
            for name in OTHER_FIREWALLS
            if _link_target(UNIT_DIR / f"{name}.service") != "/dev/null"
        ]

    def mask(self, names: Iterable[str]) -> None:
        """Keep other firewalls from being started."""
        self._checked(["systemctl", "mask", *(f"{name}.service" for name in names)], None)

    def create_user(self, name: str) -> None:
        """Create a system user that owns a flow, before the service that runs as it is there.

        Its number is part of the rules. What installs the service finds the user and may give it
        another home.
        """
        self._checked(
            [
                *("useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"),
                *("--comment", "Owner of a network flow", name),
            ],
            None,
        )

    def is_tracking(self) -> bool:
        """Return whether the running rules use connection tracking in both families."""
        return all("--ctstate" in self.live(family) for family in FAMILIES)

    def start_tracking(self) -> None:
        """Load rules that drop nothing and start connection tracking, where there are none."""
        for family in FAMILIES:
            if "--ctstate" not in self.live(family):
                self._restore(family, render_tracking())

    def live(self, family: str) -> str:
        """Return the running filter table of a family."""
        return filter_table(self._save(family))

    def state(
        self,
        family: str,
        rules: Iterable[Rule],
        uids: Mapping[str, int],
        link: str | None = None,
        dedicated: Iterable[str] = (),
    ) -> State:
        """Return the running and the wanted rules of a family.

        The wanted rules are loaded into a network namespace that exists for this one command:
        the kernel checks them, and prints them as it would print the running ones.
        """
        text = render(rules, family, uids, link, dedicated)
        tool = TOOLS[family]
        script = f"{tool}-restore && exec {tool}-save"
        out = self._checked(["unshare", "--net", "--", "sh", "-c", script], text)
        return State(live=self.live(family), wanted=filter_table(out), text=text)

    def pending(self) -> str | None:
        """Return the token of a change that waits for its confirmation, or None."""
        try:
            meta = json.loads((RUNTIME_DIR / PENDING / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return str(meta["token"])

    def roll_back(self, token: str) -> None:
        """Put the rules back that were there before the pending change."""
        self._checked([HELPER, "rollback", token], None)

    def files_differ(self, texts: Mapping[str, str]) -> bool:
        """Return whether the files that are loaded at boot differ from the given rules."""
        return any(_read(_rules_file(family)) != text for family, text in texts.items())

    def write_files(self, texts: Mapping[str, str]) -> None:
        """Write the files that are loaded at boot."""
        CONFIG_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        for family, text in texts.items():
            _write(_rules_file(family), text, 0o640)

    def apply(self, texts: Mapping[str, str], rollback_seconds: int) -> Applied:
        """Arm the rollback, then load the rules of both families.

        The files for the next boot are written by the confirmation, not here: a host that is
        switched off in between comes back with the rules that were known to work.
        """
        if not os.access(HELPER, os.X_OK):
            raise FirewallError(
                f"{HELPER} is missing, so nothing could undo the change; apply the role firewall"
            )
        token = secrets.token_hex(16)
        self._prepare(token, texts, rollback_seconds)
        self._arm(token, rollback_seconds)
        try:
            for family in reversed(FAMILIES):
                self._restore(family, texts[family])
        except FirewallError:
            self.roll_back(token)
            raise
        _write(RUNTIME_DIR / PENDING / "applied", repr(time.clock_gettime(time.CLOCK_BOOTTIME)))
        return Applied(token, rollback_seconds)

    def open(self) -> bool:
        """Remove all rules and their files; return whether there were any."""
        changed = False
        for family in FAMILIES:
            if self.live(family):
                self._restore(family, render_open())
                changed = True
            for path in _kept_files(family):
                path.unlink()
                changed = True
        return changed

    def is_open(self) -> bool:
        """Return whether the host has neither rules nor files of them."""
        return not any(self.live(family) or _kept_files(family) for family in FAMILIES)

    def _prepare(self, token: str, texts: Mapping[str, str], rollback_seconds: int) -> None:
        folder = RUNTIME_DIR / PENDING
        RUNTIME_DIR.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for family in FAMILIES:
            previous = self.live(family)
            _write(folder / f"previous.{FILES[family]}", _loadable(previous))
            _write(folder / f"new.{FILES[family]}", texts[family])
        meta = {"token": token, "rollback_seconds": rollback_seconds}
        _write(folder / "meta.json", json.dumps(meta))

    def _arm(self, token: str, seconds: int) -> None:
        # The service too: one that waits for its next attempt would hold the name.
        units = [f"{ROLLBACK_UNIT}.timer", f"{ROLLBACK_UNIT}.service"]
        self._run(["systemctl", "stop", *units], None)
        self._checked(
            [
                "systemd-run",
                "--collect",
                f"--unit={ROLLBACK_UNIT}",
                "--description=Put the previous firewall rules back unless the new are confirmed",
                f"--on-active={seconds}s",
                "--timer-property=AccuracySec=100ms",
                "--property=Restart=on-failure",
                f"--property=RestartSec={ROLLBACK_RETRY_SECONDS}s",
                HELPER,
                "rollback",
                token,
            ],
            None,
        )

    def _save(self, family: str) -> str:
        return self._checked([f"{TOOLS[family]}-save"], None)

    def _restore(self, family: str, text: str) -> None:
        self._checked([f"{TOOLS[family]}-restore", "--test"], text)
        self._checked([f"{TOOLS[family]}-restore"], text)

    def _checked(self, command: list[str], data: str | None) -> str:
        status, out, err = self._run(command, data)
        if status != 0:
            reason = (err or out).strip() or "no message"
            raise FirewallError(f"`{' '.join(command)}` ended with {status}: {reason}")
        return out


def uids_of(rules: Iterable[Rule]) -> dict[str, int]:
    """Return the number of each user that the rules name and this host has."""
    found: dict[str, int] = {}
    for name in {rule.user for rule in rules if rule.user is not None}:
        try:
            found[name] = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return found


_PATH: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")


def _loadable(table: str) -> str:
    return f"*filter\n{table}COMMIT\n" if table else render_open()


def _rules_file(family: str) -> Path:
    return CONFIG_DIR / f"rules.{FILES[family]}"


def _kept_files(family: str) -> list[Path]:
    """Return the files with confirmed rules that are there: the present and the previous."""
    paths = (_rules_file(family), CONFIG_DIR / f"previous.{FILES[family]}")
    return [path for path in paths if path.exists()]


def _link_target(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old or the new content, also after a power cut."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(path)
