"""company1's log collector: rsyslog that takes RELP over mutual TLS and keeps what it received.

It needs the site's CA, which exists only after the site was converged for the first time; until
``trust`` has handed it over, the collector does not run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from lab.errors import LabError, lab_error
from lab.host import LabHost
from lab.seed import Directory, Entry, File, Link, unit
from lab.topology import SIEM_NAME, SITE_HOSTS

PORT = 2514
RECORDS = "/var/log/siem/site.jsonl"
IDENTITIES = ("own", "other-name", "other-ca")
_UNIT = "company-siem.service"
_FOLDER = "/etc/company-siem"
_SITE_CA = f"{_FOLDER}/site-ca.pem"
_BASTION_CA = "/etc/tresor/pki/ca.crt"
_SOURCES = {"own": f"{_FOLDER}/own", "other-name": "/etc/company-idp/tls"}

_SERVICE = f"""\
[Unit]
Description=Log collector of the company
After=network.target
ConditionPathExists={_SITE_CA}

[Service]
Type=notify
ExecStart=/usr/sbin/rsyslogd -n -iNONE -f {_FOLDER}/rsyslog.conf
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""


def configuration() -> str:
    """Return the collector's configuration; hosts are accepted by their names alone."""
    peers = ", ".join(f'"{host.fqdn}"' for host in SITE_HOSTS)
    return f"""\
global(workDirectory="/var/spool/company-siem" maxMessageSize="128k"
       parser.escapeControlCharactersOnReceive="off")
module(load="imrelp" tls.tlslib="openssl")
# The line as it came, header and all, and who sent it.
template(name="record" type="list") {{
  constant(value="{{")
  property(name="timegenerated" dateFormat="rfc3339" format="jsonf" outname="at")
  constant(value=",") property(name="fromhost-ip" format="jsonf" outname="from")
  constant(value=",") property(name="rawmsg" format="jsonf" outname="raw")
  constant(value="}}\\n")
}}
# Direct: what is acknowledged has been handed to the kernel for {RECORDS}.
ruleset(name="site" queue.type="Direct") {{
  action(type="omfile" file="{RECORDS}" template="record" fileCreateMode="0640"
         asyncWriting="off" flushOnTXEnd="on")
}}
input(type="imrelp" port="{PORT}" maxDataSize="128k" ruleset="site" tls="on"
      tls.caCert="{_SITE_CA}" tls.myCert="{_FOLDER}/server.pem"
      tls.myPrivKey="{_FOLDER}/server.key" tls.authMode="name" tls.permittedPeer=[{peers}])
"""


def files(certificate: str, key: str) -> list[Entry]:
    """Return what the collector has on company1's disk from the start."""
    return [
        Directory("etc/company-siem", 0o700),
        Directory("var/spool/company-siem", 0o700),
        Directory("var/log/siem", 0o750),
        File("etc/company-siem/rsyslog.conf", configuration()),
        File("etc/company-siem/own.pem", certificate),
        File("etc/company-siem/own.key", key, 0o600),
        File("etc/company-siem/server.pem", certificate),
        File("etc/company-siem/server.key", key, 0o600),
        *unit(_UNIT, _SERVICE, wanted_by="multi-user.target"),
        Link("etc/systemd/system/rsyslog.service", "/dev/null"),
    ]


def trust(host: LabHost, bastion: LabHost, seconds: float = 20) -> None:
    """Hand the site's CA over from the bastion and start; LabError before the first converge."""
    try:
        authority = bastion.run(["cat", _BASTION_CA]).stdout
    except LabError as error:
        raise lab_error(
            "CA of the site",
            f"the bastion has no {_BASTION_CA}: {error.problems[0].seen}",
            "Converge the site first",
        ) from error
    with tempfile.NamedTemporaryFile(prefix="tresor-lab-") as file:
        file.write(authority.encode())
        file.flush()
        host.feed(["install", "-m", "644", "/dev/stdin", _SITE_CA], Path(file.name))
    host.run(["systemctl", "restart", _UNIT])
    _wait(host, seconds)


def start(host: LabHost, seconds: float = 20) -> None:
    """Start the collector; LabError while the site's CA was not handed over."""
    host.run(["systemctl", "start", _UNIT])
    _wait(host, seconds)


def stop(host: LabHost) -> None:
    """Stop the collector: connections end, new ones are refused."""
    host.run(["systemctl", "stop", _UNIT])


def present(host: LabHost, identity: str) -> None:
    """Show another certificate from now on: the own one, one of a wrong name, or of another CA."""
    if identity == "other-ca":
        name = f"/O=Somebody else/CN={SIEM_NAME}"
        host.run(
            [
                *("openssl", "req", "-x509", "-days", "30", "-noenc", "-subj", name),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-addext", f"subjectAltName=DNS:{SIEM_NAME}"),
                *("-keyout", f"{_FOLDER}/server.key", "-out", f"{_FOLDER}/server.pem"),
            ]
        )
    else:
        source = _SOURCES[identity]
        host.run(["cp", f"{source}.pem", f"{_FOLDER}/server.pem"])
        host.run(["cp", f"{source}.key", f"{_FOLDER}/server.key"])
    host.run(["systemctl", "restart", _UNIT])
    _wait(host, 20)


def _wait(host: LabHost, seconds: float) -> None:
    """Wait until the collector's port takes connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            host.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"])
            return
        except LabError as error:
            if time.monotonic() > deadline:
                raise lab_error(
                    "log collector on company1",
                    f"port {PORT} takes no connection after {seconds:.0f} s",
                    "See labctl exec company1 journalctl -u company-siem; it runs only after "
                    "labctl siem trust",
                ) from error
            time.sleep(0.3)
