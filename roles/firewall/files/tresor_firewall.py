#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tresor-firewall: load, confirm and undo this host's firewall rules.

  load              load the confirmed rules (at boot); exit 1 if the emergency rules had to serve
  confirm TOKEN     keep the rules that were just loaded; only over a new SSH connection
  rollback TOKEN    put the rules back that an unconfirmed change replaced (the timer calls it too)
  previous          load and keep the rules confirmed before the present ones; again: back to these
  status            what is loaded, what waits, how the last change ended, as JSON
  counters          packets and bytes of every flow and drop rule, as JSON

Standard library only; needs root. Exit status: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CONFIG_DIR = Path("/etc/tresor/firewall")
RUNTIME_DIR = Path("/run/tresor-firewall")
PROC = Path("/proc")
ROLLBACK_UNIT = "tresor-firewall-rollback"
FAMILIES = {"v4": "iptables", "v6": "ip6tables"}
CHAINS = ("INPUT", "FORWARD", "OUTPUT")
PEER_TIMEOUT = 5.0
"""Seconds to wait for a peer's SSH greeting."""

EMERGENCY = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
{extra}-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW \
-m comment --comment "emergency:ssh" -j ACCEPT
-A INPUT -m comment --comment "drop:in" -j DROP
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -m comment --comment "drop:out" -j DROP
COMMIT
"""
"""What is loaded at boot when the confirmed rules cannot be: nothing but SSH into the host."""

NEIGHBOURS = "".join(
    f"-A {chain} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m hl --hl-eq 255 -j ACCEPT\n"
    for chain in ("INPUT", "OUTPUT")
    for kind in (135, 136)
)


class FirewallError(Exception):
    """Something an operator has to know: what failed and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="tresor-firewall", description="Tresor host firewall")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("load", "previous", "status", "counters"):
        commands.add_parser(name)
    confirming = commands.add_parser("confirm")
    confirming.add_argument("token")
    confirming.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDRESS:PORT",
        help="on the host that runs Ansible: an SSH server that must answer a new connection",
    )
    undoing = commands.add_parser("rollback")
    undoing.add_argument("token")
    options = parser.parse_args(arguments)
    actions: dict[str, Callable[[], int]] = {
        "load": load,
        "previous": previous,
        "status": status,
        "counters": counters,
        "confirm": lambda: confirm(options.token, options.peer),
        "rollback": lambda: rollback(options.token),
    }
    try:
        return actions[options.command]()
    except (FirewallError, OSError) as error:
        print(f"tresor-firewall: {error}", file=sys.stderr)
        return 1


def load() -> int:
    """Load the confirmed rules; where that fails, the emergency rules. One family at a time.

    Whatever happens to one family, the other is loaded too: no one stands by at boot.
    """
    result = 0
    for suffix, tool in reversed(FAMILIES.items()):
        path = CONFIG_DIR / f"rules.{suffix}"
        try:
            restore(tool, read(path))
        except (FirewallError, OSError, ValueError) as error:
            print(f"tresor-firewall: {path}: {error}; loading emergency rules", file=sys.stderr)
            load_emergency(suffix, tool)
            result = 1
    return result


def load_emergency(suffix: str, tool: str) -> None:
    """Close one family: with the emergency rules, or at least by the policies of its chains."""
    try:
        restore(tool, emergency_rules(suffix))
        return
    except (FirewallError, OSError) as error:
        print(f"tresor-firewall: {error}; dropping everything by policy", file=sys.stderr)
    for chain in CHAINS:
        try:
            checked([tool, "-P", chain, "DROP"])
        except (FirewallError, OSError) as error:
            print(f"tresor-firewall: {chain} may be OPEN: {error}", file=sys.stderr)


def emergency_rules(suffix: str) -> str:
    """Return the emergency rules of a family."""
    return EMERGENCY.format(extra=NEIGHBOURS if suffix == "v6" else "")


def confirm(token: str, peers: list[str]) -> int:
    """Keep the pending rules: write them for the next boot and stop the timer."""
    with lock():
        pending = read_pending(token)
        applied = pending / "applied"
        if not applied.exists():
            raise FirewallError(
                "the rules are not loaded yet or being undone, so nothing can be confirmed"
            )
        if peers:
            reach_any(peers)
        else:
            require_new_ssh(float(applied.read_text(encoding="utf-8")))
        CONFIG_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        texts = read_rules(pending, "new")
        before = confirmed_rules()
        if before is not None and before != texts:
            write_rules("previous", before)
        write_rules("rules", texts)
        finish(token, "confirmed")
    systemctl_stop(f"{ROLLBACK_UNIT}.timer")
    return 0


def rollback(token: str) -> int:
    """Put the previous rules back, unless the change is confirmed or undone already.

    Both families are tried. If one fails, the change stays pending, so that the next attempt (the
    unit of the timer makes one every few seconds) finds all it needs.
    """
    with lock():
        try:
            pending = read_pending(token)
        except FirewallError as error:
            print(f"tresor-firewall: nothing to undo: {error}")
            return 0
        # From here on the new rules are no longer what is loaded: they must not be confirmed.
        (pending / "applied").unlink(missing_ok=True)
        failures = []
        for suffix, tool in FAMILIES.items():
            try:
                restore(tool, read(pending / f"previous.{suffix}"))
            except (FirewallError, OSError, ValueError) as error:
                failures.append(str(error))
        if failures:
            raise FirewallError(
                f"not all previous rules are back: {'; '.join(failures)}. The change stays "
                f"pending; mend the cause, then run `tresor-firewall rollback {token}` again"
            )
        finish(token, "rolled-back")
    print("tresor-firewall: the previous rules are back")
    # The timer itself may be the caller: its service must not be stopped from within.
    systemctl_stop(f"{ROLLBACK_UNIT}.timer")
    return 0


def previous() -> int:
    """Load the rules that were confirmed before the present ones, and keep them for the next boot.

    Both families or none. The present ones become the previous: a second call goes back to them.
    """
    with lock():
        meta = RUNTIME_DIR / "pending" / "meta.json"
        if meta.exists():
            token = json.loads(meta.read_text(encoding="utf-8"))["token"]
            raise FirewallError(
                "an unconfirmed change is loaded, which undoes itself; to undo it now, run "
                f"`tresor-firewall rollback {token}`"
            )
        try:
            wanted = read_rules(CONFIG_DIR, "previous")
        except FileNotFoundError as error:
            raise FirewallError(
                f"{error.filename} is missing: no other rules were confirmed on this host before"
            ) from None
        replaced = confirmed_rules()
        for suffix, tool in FAMILIES.items():
            restore(tool, wanted[suffix], "--test")
        running = {suffix: loadable(save(tool)) for suffix, tool in FAMILIES.items()}
        loaded: list[str] = []
        try:
            for suffix, tool in reversed(FAMILIES.items()):
                restore(tool, wanted[suffix])
                loaded.append(suffix)
        except (FirewallError, OSError):
            for suffix in loaded:
                restore(FAMILIES[suffix], running[suffix])
            raise
        write_rules("rules", wanted)
        if replaced is not None:
            write_rules("previous", replaced)
    print("tresor-firewall: the rules confirmed before are loaded, also at the next boot")
    return 0


def status() -> int:
    """Print what is loaded, pending and last done."""
    pending = RUNTIME_DIR / "pending" / "meta.json"
    last = RUNTIME_DIR / "last.json"
    print(
        json.dumps(
            {
                "loaded": {tool: loaded_rules(suffix, tool) for suffix, tool in FAMILIES.items()},
                "pending": json.loads(pending.read_text()) if pending.exists() else None,
                "last": json.loads(last.read_text()) if last.exists() else None,
            },
            sort_keys=True,
        )
    )
    return 0


def loaded_rules(suffix: str, tool: str) -> str:
    """Say which rules of a family are loaded: confirmed, unconfirmed, emergency or other."""
    live = plain(save(tool))
    known: dict[str, Callable[[], str]] = {
        "confirmed": lambda: read(CONFIG_DIR / f"rules.{suffix}"),
        "unconfirmed": lambda: read(RUNTIME_DIR / "pending" / f"new.{suffix}"),
        "emergency": lambda: emergency_rules(suffix),
    }
    for name, text in known.items():
        # Compared as the kernel prints them; unusable rules cannot be the ones that are loaded.
        with contextlib.suppress(FirewallError, OSError, ValueError):
            if as_printed(tool, text()) == live:
                return name
    return "other"


def as_printed(tool: str, text: str) -> list[str]:
    """Return rules as the kernel prints them, from a network namespace made for this command."""
    script = f"{tool}-restore && exec {tool}-save -t filter"
    return plain(checked(["unshare", "--net", "--", "sh", "-c", script], text))


def plain(saved: str) -> list[str]:
    """Return the lines of saved rules without counters and remarks."""
    lines = [re.sub(r"\[\d+:\d+\]", "", line).strip() for line in saved.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def loadable(saved: str) -> str:
    """Return saved rules as text for the restore program; a family without any accepts all."""
    if plain(saved):
        return saved
    return "\n".join(["*filter", *(f":{chain} ACCEPT [0:0]" for chain in CHAINS), "COMMIT", ""])


def read(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


def read_rules(folder: Path, name: str) -> dict[str, str]:
    """Return the text of both families' rules files."""
    return {suffix: read(folder / f"{name}.{suffix}") for suffix in FAMILIES}


def confirmed_rules() -> dict[str, str] | None:
    """Return the rules that are loaded at boot, or None if they are not there or unreadable."""
    try:
        return read_rules(CONFIG_DIR, "rules")
    except (OSError, ValueError):
        return None


def write_rules(name: str, texts: dict[str, str]) -> None:
    """Write the rules files of both families."""
    for suffix, text in texts.items():
        write(CONFIG_DIR / f"{name}.{suffix}", text, 0o640)


def counters() -> int:
    """Print packets and bytes by family and comment, summed over rules with the same comment."""
    result: dict[str, dict[str, dict[str, int]]] = {}
    for suffix, tool in FAMILIES.items():
        found = result.setdefault(f"ip{suffix}", {})
        for line in save(tool, "--counters").splitlines():
            count = re.match(r"\[(\d+):(\d+)\]", line)
            comment = re.search(r'--comment "?([a-z]+:[a-z0-9-]+)"?', line)
            if count and comment:
                entry = found.setdefault(comment[1], {"packets": 0, "bytes": 0})
                entry["packets"] += int(count[1])
                entry["bytes"] += int(count[2])
    print(json.dumps(result, sort_keys=True))
    return 0


def require_new_ssh(applied: float) -> None:
    """Check that this command came over an SSH connection younger than the rules.

    A connection that existed before is let through as established whatever the rules say, and a
    shared one is older than it looks. The process of sshd that serves a connection is as old as
    the connection.
    """
    started = ssh_process_start(os.getpid())
    if started is None:
        raise FirewallError(
            "this is no SSH connection; confirm over a new one, or, on the host that runs Ansible, "
            "name a peer to reach"
        )
    if started <= applied:
        raise FirewallError(
            f"this SSH connection is {applied - started:.1f} s older than the rules; confirm over "
            "a new one (ssh -o ControlMaster=no -o ControlPath=none)"
        )


def ssh_process_start(pid: int) -> float | None:
    """Return when the nearest sshd above a process began, in seconds since boot, or None."""
    while pid > 1:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        # The name stands in brackets and may itself hold blanks and brackets.
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        if name.startswith("sshd"):
            return int(fields[19]) / os.sysconf("SC_CLK_TCK")
        pid = int(fields[1])
    return None


def reach_any(peers: list[str]) -> None:
    """Check that a new connection to the SSH server of at least one peer is answered."""
    reasons = []
    for peer in peers:
        address, _, port = peer.rpartition(":")
        try:
            target = (address.strip("[]"), int(port))
            with socket.create_connection(target, timeout=PEER_TIMEOUT) as connection:
                greeting = connection.recv(64)
        except (OSError, ValueError) as error:
            reasons.append(f"{peer}: {error}")
            continue
        if greeting.startswith(b"SSH-2.0-"):
            return
        reasons.append(f"{peer}: no SSH greeting")
    raise FirewallError("no peer answers a new SSH connection: " + "; ".join(reasons))


def read_pending(token: str) -> Path:
    """Return the folder of the pending change with this token."""
    folder = RUNTIME_DIR / "pending"
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FirewallError("no change is pending: it was confirmed or undone already") from None
    if meta["token"] != token:
        raise FirewallError("another change is pending, with another token")
    return folder


def finish(token: str, result: str) -> None:
    """Remember how the change ended; without meta.json it is no longer pending."""
    record = {"token": token, "result": result, "time": int(time.time())}
    write(RUNTIME_DIR / "last.json", json.dumps(record), 0o600)
    folder = RUNTIME_DIR / "pending"
    (folder / "meta.json").unlink()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def save(tool: str, *options: str) -> str:
    """Return what the save program of a family prints."""
    return checked([f"{tool}-save", *options, "-t", "filter"])


def restore(tool: str, text: str, *options: str) -> None:
    """Load the rules of a family in one step."""
    checked([f"{tool}-restore", *options], text)


def checked(command: list[str], data: str | None = None) -> str:
    """Run a command and return what it prints; raise FirewallError if it fails."""
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip()
        raise FirewallError(f"`{' '.join(command)}` ended with {done.returncode}: {reason}")
    return done.stdout


def systemctl_stop(unit: str) -> None:
    """Stop a transient unit; one that is gone already is no error."""
    subprocess.run(["systemctl", "stop", unit], capture_output=True, check=False)


def write(path: Path, text: str, mode: int) -> None:
    """Write a file so that a reader sees the old or the new content, also after a power cut."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(path)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let one confirmation or rollback run at a time."""
    RUNTIME_DIR.mkdir(mode=0o700, exist_ok=True)
    with (RUNTIME_DIR / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
