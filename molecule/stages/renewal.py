"""Stage renewal: the timer alone renews certificates of minutes, and a failure harms nothing.

Runs on a converged lab and takes some minutes. Only the bastion is converged for it: the timer does
the rest. At the end the inventory is put back and certificates of the usual length are issued.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from stages.shell import StageError, on_host, output, put, run

_WIRING = "/etc/tresor/inventory/group_vars/all/wiring.yml"
_KEPT = "/root/wiring.yml.before-renewal"
_CA_KEY = "/etc/tresor/pki/ca/ca.key"
_API = "https://llm.site.example/v1/models"
_RENEWED = "/etc/tresor/pki/host.crt"

# Long enough for one whole run on a busy machine to fit into the window twice.
VALIDITY_S = 600
WINDOW_S = 300
INTERVAL_S = 45
_SHORT = f"""
# Of the stage renewal; gone when it has ended.
host_certificate_validity_seconds: {VALIDITY_S}
host_certificate_renew_before_seconds: {WINDOW_S}
certificate_renewal_interval_seconds: {INTERVAL_S}
certificate_renewal_retry_seconds: 10
"""
_PATIENCE_S = 900
# NGINX restarts on a renewed certificate: a new connection may meet the moment between two servers.
_MAX_GAP_S = 5.0


@dataclass
class Probe:
    """A user who asks all the time, and what went wrong."""

    answered: int = 0
    gaps: list[float] = field(default_factory=list)
    last_good: float = field(default_factory=time.monotonic)
    refused: bool = False
    running: bool = True

    def ask(self) -> None:
        """Ask until told to stop; without a token the right answer is 401."""
        command = "curl -s -o /dev/null -m 4 -w '%{http_code}' --cacert /run/site-ca.crt " + _API
        while self.running:
            try:
                said = output(on_host("company1", "sh", "-c", f"{command} || true"), what="ask")
            except StageError:
                said = ""
            self.note(good=said.strip() == "401", now=time.monotonic())
            time.sleep(1)

    def note(self, *, good: bool, now: float) -> None:
        """Take note of one attempt; ``now`` in seconds.

        A gap lies between two good answers with a refused attempt between them: without one, only
        the user was slow, which a busy machine makes of anybody.
        """
        if not good:
            self.refused = True
            return
        if self.refused:
            self.gaps.append(now - self.last_good)
        self.answered, self.last_good, self.refused = self.answered + 1, now, False

    def worst(self, now: float) -> float:
        """Return the longest gap in seconds; one that lasts counts up to ``now``."""
        lasting = [now - self.last_good] if self.refused or not self.answered else []
        return max([*self.gaps, *lasting], default=0.0)


def hosts() -> list[str]:
    """Return the lab's names of the site's hosts that take part."""
    listed = json.loads(
        output(on_host("bastion", "cat", "/var/lib/tresor/plan/plan.json"), what="plan")
    )
    names = {"bastion1": "bastion"}
    return [names.get(host, host) for host in listed["tresor_plan"]["hosts"]]


def serials(names: Sequence[str]) -> dict[str, str]:
    """Return the serial number of each host's certificate."""
    command = ["openssl", "x509", "-noout", "-serial", "-in", _RENEWED]
    return {
        host: output(on_host(host, *command), what=f"serial of {host}").strip() for host in names
    }


def served(address: str, name: str, host: str) -> str:
    """Return the serial of the certificate that a server shows to company1 or the bastion."""
    script = (
        f"openssl s_client -connect {address} -servername {name} </dev/null 2>/dev/null"
        " | openssl x509 -noout -serial"
    )
    return output(on_host(host, "sh", "-c", script), what=f"certificate of {name}").strip()


def unit_result() -> tuple[str, str]:
    """Return result and state of the renewal service."""
    text = output(
        on_host(
            "bastion",
            "systemctl",
            "show",
            "tresor-renew.service",
            "-p",
            "Result",
            "-p",
            "ActiveState",
        ),
        what="state of the renewal",
    )
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return fields["Result"], fields["ActiveState"]


def wait_until(what: str, holds: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
    """Wait for a condition.

    Raises:
        StageError: it did not come true in time.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise StageError(f"renewal: waited {seconds:.0f} s in vain for: {what}")
        time.sleep(3)
    print(f"renewal: {what}", flush=True)


@contextmanager
def short_certificates(names: Sequence[str]) -> Iterator[None]:
    """Have certificates of minutes, and put everything back afterwards."""
    ca = output(on_host("bastion", "cat", "/etc/tresor/pki/ca.crt"), what="the site's CA")
    put("company1", "/run/site-ca.crt", ca.encode())
    _quiet()
    run(on_host("bastion", "cp", "-n", _WIRING, _KEPT), what="keep the inventory")
    run(on_host("bastion", "sh", "-c", f"cp {_KEPT} {_WIRING}; cat >> {_WIRING}"), what="shorten",
        stdin=_SHORT.encode())  # fmt: skip
    try:
        _converge_bastion()
        for host in names:
            # The long ones are not due; without them the timer issues short ones.
            run(on_host(host, "rm", _RENEWED), what=f"take the certificate of {host} away")
        yield
    finally:
        _quiet()
        run(on_host("bastion", "sh", "-c", f"cp {_KEPT} {_WIRING} && rm {_KEPT}"), what="put back")
        give_back = f"[ ! -e {_CA_KEY}.away ] || mv {_CA_KEY}.away {_CA_KEY}"
        run(on_host("bastion", "sh", "-c", give_back), what="put the authority's key back")
        run(on_host("bastion", "tresor", "run", "operate/renew.yml", "--quiet"), what="renew")
        _converge_bastion()


def _converge_bastion() -> None:
    command = ["tresor", "converge", "--quiet", "--", "--limit", "bastion"]
    run(on_host("bastion", *command), what="converge the bastion")


def _quiet() -> None:
    """Stop the timer and let a run of it end: converge needs the lock, and starts it again."""
    run(on_host("bastion", "systemctl", "stop", "tresor-renew.timer"), what="stop the timer")
    wait_until("no renewal is under way", lambda: unit_result()[1] != "activating")


def main() -> None:
    """Prove renewal, then what a failing one does."""
    names = hosts()
    with short_certificates(names):
        wait_until("every host has a certificate", lambda: _present(names))
        first = serials(names)
        probe = Probe()
        asking = threading.Thread(target=probe.ask)
        asking.start()
        try:
            wait_until("every certificate was renewed by the timer", lambda: _all_new(first, names))
            wait_until("the run ended well", lambda: unit_result() == ("success", "inactive"))
            second = serials(names)
            _refuse_old(
                "gateway1", served("198.51.100.20:443", "llm.site.example", "company1"), second
            )
            _refuse_old(
                "bastion", served("198.51.100.10:8443", "bastion1.site.example", "bastion"), second
            )
            _fail_once(names)
        finally:
            probe.running = False
            asking.join()
    worst = probe.worst(time.monotonic())
    print(f"renewal: {probe.answered} answers, longest gap {worst:.1f} s", flush=True)
    if worst > _MAX_GAP_S + 4:  # the curl's own limit
        raise StageError(f"renewal: the API did not answer for {worst:.1f} s")


def _present(names: Sequence[str]) -> bool:
    try:
        return len(serials(names)) == len(names)
    except StageError:
        return False


def _all_new(before: dict[str, str], names: Sequence[str]) -> bool:
    now = serials(names)
    return all(now[host] != before[host] for host in names)


def _refuse_old(host: str, shown: str, wanted: dict[str, str]) -> None:
    if shown != wanted[host]:
        raise StageError(f"renewal: {host} shows {shown}, its certificate is {wanted[host]}")
    print(f"renewal: {host} shows its new certificate, {shown}", flush=True)


def _fail_once(names: Sequence[str]) -> None:
    """Without the authority's key nothing changes and all see it; with it all is well again."""
    run(on_host("bastion", "mv", _CA_KEY, f"{_CA_KEY}.away"), what="take the key away")
    before = serials(names)
    wait_until(
        "a renewal without the authority's key failed", lambda: unit_result()[0] == "exit-code"
    )
    if serials(names) != before:
        raise StageError("renewal: a failed renewal changed a certificate")
    journal = output(
        on_host(
            "bastion",
            "journalctl",
            "-u",
            "tresor-renew.service",
            "-n",
            "30",
            "--no-pager",
            "-o",
            "cat",
        ),
        what="journal",
    )
    if "operate/renew.yml failed" not in journal:
        raise StageError(f"renewal: the journal does not say that it failed:\n{journal}")
    run(on_host("bastion", "mv", f"{_CA_KEY}.away", _CA_KEY), what="give the key back")
    wait_until("the next renewal was good again", lambda: unit_result() == ("success", "inactive"))
