"""company1: the company's CA, identity provider, time server, and the place of its users.

Keys and secrets are made when the lab is made. The identity provider's program is an npm tree
that the bundle carries; ``install_idp`` unpacks and starts it.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab import collector
from lab.errors import LabError, lab_error
from lab.host import LabHost
from lab.hostfiles import FILES
from lab.seed import Account, Directory, Entry, File, Link, unit
from lab.shell import run, write_atomic
from lab.topology import API_NAME, COMPANY1, COMPANY_DOMAIN, IDP_NAME, SIEM_NAME, SITE

ISSUER = f"https://{IDP_NAME}"
AUDIENCE = "urn:tresor:gateway"
TOKEN_SECONDS = 600
IDP_ACCOUNT = Account("company-idp", 990, "/opt/company-idp", "/usr/sbin/nologin")
_CA_FILE = "/etc/company/ca.pem"
# Certificate and key in one file.
_REPORTER_PAIR = "/etc/company/reporter.pem"
_MAX_PACKAGE_BYTES = 64 * 1024 * 1024

_IDP_UNIT = """\
[Unit]
Description=Identity provider of the company
After=network.target
ConditionPathIsDirectory=/opt/company-idp/node_modules

[Service]
User=company-idp
AmbientCapabilities=CAP_NET_BIND_SERVICE
Environment=NODE_ENV=production
# Whom it believes when it tells of a logout: the site's own CA until the company's is in use.
Environment=NODE_EXTRA_CA_CERTS=/etc/company/trusted.pem
WorkingDirectory=/opt/company-idp
ExecStart=/usr/bin/node /opt/company-idp/idp.mjs /etc/company-idp/idp.json
Restart=on-failure
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""
_CHRONY_CONF = f"""\
# The company's time: this machine's own clock, which nobody here may set.
local stratum 8
allow {SITE.ipv4}
allow {SITE.ipv6}
driftfile /var/lib/chrony/chrony.drift
"""


@dataclass(frozen=True)
class Client:
    """A client of the identity provider that gets tokens for itself."""

    name: str
    groups: tuple[str, ...]
    audience: str = AUDIENCE
    token_seconds: int = TOKEN_SECONDS
    bound: bool = False


@dataclass(frozen=True)
class User:
    """A person, who gets tokens through the public client ``cli``."""

    name: str
    full_name: str
    groups: tuple[str, ...]


REPORTER = "reporter"
CLIENTS = (
    Client("batch", ("llm-users", "llm-embedding")),
    Client("verify-allowed", ("llm-users", "llm-embedding")),
    Client("verify-noaccess", ("guests",)),
    Client("verify-expired", ("llm-users",), token_seconds=1),
    Client("verify-wrongaud", ("llm-users",), audience="urn:other:api"),
    # A service account of the site: no groups, its tokens are bound to its certificate.
    Client(REPORTER, (), bound=True),
)
USERS = (
    User("alice", "Alice Example", ("llm-users", "llm-embedding", "team-a")),
    User("bob", "Bob Example", ("guests",)),
    User("carol", "Carol Example", ("llm-trial",)),
    User("dave", "Dave Example", ("llm-trial",)),
)
CLI = "cli"
PORTAL = "tresor-portal"


@dataclass(frozen=True)
class Company:
    """Everything secret of the company, as kept in the lab's state."""

    secrets: dict[str, str]
    cookie_key: str
    ca_certificate: str
    ca_key: str
    idp_certificate: str
    idp_key: str
    siem_certificate: str
    siem_key: str
    reporter_certificate: str
    reporter_key: str
    signing_key: str

    @classmethod
    def load_or_create(cls, path: Path) -> Company:
        """Read the file, or make a new company and write it (whole or not at all)."""
        if path.exists():
            return cls(**json.loads(path.read_text()))
        certificates = _certificates()
        rsa = ["openssl", "genpkey", "-quiet", "-algorithm", "RSA"]
        company = cls(
            secrets={entry.name: secrets.token_urlsafe(24) for entry in (*CLIENTS, *USERS)}
            | {PORTAL: secrets.token_urlsafe(24)},
            cookie_key=secrets.token_urlsafe(32),
            **certificates,
            signing_key=run([*rsa, "-pkeyopt", "rsa_keygen_bits:2048"]).stdout,
        )
        write_atomic(path, json.dumps(company.__dict__, indent=1), 0o600)
        return company


def _certificates() -> dict[str, str]:
    """Return certificate and key of the CA, its servers and the machine ``reporter``."""
    own = f"DNS:{COMPANY1.fqdn},IP:{COMPANY1.ipv4},IP:{COMPANY1.ipv6}"
    # The collector's has its own name only: the provider's then serves as one of a wrong name.
    reporter = f"{REPORTER}.{COMPANY_DOMAIN}"
    leaves = {
        "idp": (IDP_NAME, f"DNS:{IDP_NAME},{own}", "serverAuth"),
        "siem": (SIEM_NAME, f"DNS:{SIEM_NAME}", "serverAuth"),
        REPORTER: (reporter, f"DNS:{reporter}", "clientAuth"),
    }
    with tempfile.TemporaryDirectory(prefix="tresor-lab-") as name:
        work = Path(name)
        # An own, empty configuration: the distribution's would add extensions of its own.
        (work / "req.cnf").write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        request = ["openssl", "req", "-x509", "-config", f"{work}/req.cnf", "-days", "825"]
        request += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        ca = ["-keyout", f"{work}/ca.key", "-out", f"{work}/ca.pem"]
        ca += ["-subj", "/O=Example Company/CN=Example Company Root CA"]
        run(
            request
            + ca
            + _extensions(
                "basicConstraints=critical,CA:TRUE,pathlen:0",
                "keyUsage=critical,keyCertSign,cRLSign",
                "subjectKeyIdentifier=hash",
            )
        )
        for leaf, (common_name, names, usage) in leaves.items():
            files = ["-keyout", f"{work}/{leaf}.key", "-out", f"{work}/{leaf}.pem"]
            files += ["-subj", f"/O=Example Company/CN={common_name}"]
            files += ["-CA", f"{work}/ca.pem", "-CAkey", f"{work}/ca.key"]
            run(
                request
                + files
                + _extensions(
                    f"subjectAltName={names}",
                    "basicConstraints=critical,CA:FALSE",
                    "keyUsage=critical,digitalSignature",
                    f"extendedKeyUsage={usage}",
                    "subjectKeyIdentifier=hash",
                    "authorityKeyIdentifier=keyid",
                )
            )
        made = {}
        for entry in ("ca", *leaves):
            made[f"{entry}_certificate"] = (work / f"{entry}.pem").read_text()
            made[f"{entry}_key"] = (work / f"{entry}.key").read_text()
    return made


def sign_request(company: Company, request: str, days: int = 90) -> str:
    """Sign a server's signing request as the company's PKI would; return the certificate, PEM.

    Names come from the request: the company's people have looked at it.

    Raises LabError when openssl refuses the request.
    """
    with tempfile.TemporaryDirectory(prefix="tresor-lab-") as name:
        work = _authority_files(company, Path(name))
        (work / "request.csr").write_text(request)
        (work / "extensions").write_text(
            "basicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        sign = ["openssl", "x509", "-req", "-in", f"{work}/request.csr", "-days", str(days)]
        sign += ["-CA", f"{work}/ca.pem", "-CAkey", f"{work}/ca.key"]
        sign += ["-copy_extensions", "copy", "-extfile", f"{work}/extensions"]
        return run(sign).stdout


def revocation_list(company: Company, revoked: Sequence[str], days: int = 7) -> str:
    """Return the company's list of revoked certificates, PEM, good for ``days``; may be negative.

    ``revoked`` are certificates of the company in PEM.
    """
    with tempfile.TemporaryDirectory(prefix="tresor-lab-") as name:
        work = _authority_files(company, Path(name))
        (work / "index.txt").touch()
        (work / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={work}/index.txt\ndefault_md=sha256\n"
            f"certificate={work}/ca.pem\nprivate_key={work}/ca.key\ncrl_extensions=crl\n"
            "[crl]\nauthorityKeyIdentifier=keyid\n"
        )
        command = ["openssl", "ca", "-config", f"{work}/ca.cnf"]
        for number, certificate in enumerate(revoked):
            (work / f"{number}.pem").write_text(certificate)
            run([*command, "-revoke", f"{work}/{number}.pem"])
        now = time.time()
        dates = [
            time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment))
            for moment in (min(now, now + days * 86400) - 3600, now + days * 86400)
        ]
        run([*command, "-gencrl", "-out", f"{work}/crl.pem", "-crl_lastupdate", dates[0],
             "-crl_nextupdate", dates[1]])  # fmt: skip
        return (work / "crl.pem").read_text()


def _authority_files(company: Company, work: Path) -> Path:
    (work / "ca.pem").write_text(company.ca_certificate)
    (work / "ca.key").write_text(company.ca_key)
    return work


def _extensions(*extensions: str) -> list[str]:
    return [word for extension in extensions for word in ("-addext", extension)]


def idp_config(company: Company) -> dict[str, object]:
    """Return the identity provider's configuration."""
    clients: list[dict[str, object]] = [
        {
            "id": client.name,
            "secret": company.secrets[client.name],
            "grant": "client_credentials",
            "groups": client.groups,
            "audience": client.audience,
            "token_seconds": client.token_seconds,
            "bound": client.bound,
        }
        for client in CLIENTS
    ]
    clients.append(
        {
            "id": PORTAL,
            "secret": company.secrets[PORTAL],
            "grant": "authorization_code",
            "redirect_uris": [f"https://{API_NAME}/callback"],
            "post_logout_redirect_uris": [f"https://{API_NAME}/"],
            "backchannel_logout_uri": f"https://{API_NAME}/backchannel-logout",
            "groups": [],
            "audience": AUDIENCE,
            "token_seconds": TOKEN_SECONDS,
        }
    )
    clients.append(
        {
            "id": CLI,
            "secret": None,
            "grant": "password",
            "groups": [],
            "audience": AUDIENCE,
            "token_seconds": TOKEN_SECONDS,
        }
    )
    return {
        "issuer": ISSUER,
        "listen": {
            "address": "::",
            "port": 443,
            "client_ca": _CA_FILE,
            "certificate": "/etc/company-idp/tls.pem",
            "key": "/etc/company-idp/tls.key",
        },
        "signing_key": "/etc/company-idp/signing.pem",
        "cookie_keys": [company.cookie_key],
        "clients": clients,
        "users": [
            {
                "name": user.name,
                "full_name": user.full_name,
                "password": company.secrets[user.name],
                "groups": user.groups,
            }
            for user in USERS
        ],
    }


def credentials(company: Company) -> dict[str, object]:
    """Return what ``company-token`` reads: who can ask for a token, and how."""
    entries: dict[str, dict[str, object]] = {
        client.name: {
            "grant": "client_credentials",
            "secret": company.secrets[client.name],
            **({"certificate": _REPORTER_PAIR} if client.bound else {}),
        }
        for client in CLIENTS
    }
    for user in USERS:
        secret = company.secrets[user.name]
        entries[user.name] = {"grant": "password", "client": CLI, "secret": secret}
    return {"token_uri": f"{ISSUER}/token", "ca_file": _CA_FILE, "entries": entries}


def files(company: Company) -> list[Entry]:
    """Return what company1 has beyond every host's files."""
    group = IDP_ACCOUNT.number
    config = json.dumps(idp_config(company), indent=1)
    token = "#!/usr/bin/python3\n" + (FILES / "company_token.py").read_text()
    return [
        Directory("etc/company-idp", 0o750, group=group),
        File("etc/company-idp/idp.json", config, 0o640, group=group),
        File("etc/company-idp/tls.pem", company.idp_certificate),
        File("etc/company-idp/tls.key", company.idp_key, 0o640, group=group),
        File("etc/company-idp/signing.pem", company.signing_key, 0o640, group=group),
        Directory("opt/company-idp"),
        File("opt/company-idp/idp.mjs", (FILES / "idp.mjs").read_text()),
        File("etc/company/ca.pem", company.ca_certificate),
        File("etc/company/trusted.pem", company.ca_certificate),
        File(_REPORTER_PAIR[1:], company.reporter_certificate + company.reporter_key, 0o600),
        File(
            "etc/company/credentials.json",
            json.dumps(credentials(company), indent=1),
            0o600,
        ),
        File("usr/local/bin/company-token", token, 0o755),
        *unit("company-idp.service", _IDP_UNIT, wanted_by="multi-user.target"),
        *collector.files(company.siem_certificate, company.siem_key),
        File("etc/chrony/chrony.conf", _CHRONY_CONF),
        Link(
            "etc/systemd/system/multi-user.target.wants/chrony.service",
            "/lib/systemd/system/chrony.service",
        ),
    ]


def bastion_files(company: Company) -> list[Entry]:
    """Return what the company has handed to the site's operators: its CA, the probes' secrets."""
    entries: list[Entry] = [
        Directory("etc/tresor/secrets", 0o700),
        Directory("etc/tresor/secrets/verify", 0o700),
        File("etc/tresor/trust/company-ca.pem", company.ca_certificate),
        File("etc/tresor/secrets/portal-client-secret", company.secrets[PORTAL], 0o400),
    ]
    entries += [
        File(
            f"etc/tresor/secrets/verify/{client.name}",
            company.secrets[client.name],
            0o400,
        )
        for client in CLIENTS
        if client.name.startswith("verify-")
    ]
    return entries


def package_tree(text: str) -> list[tuple[PurePosixPath, str]]:
    """Read package-tree.json: where each package goes and the file it is in.

    Raises LabError for a path or file name that would leave its directory.
    """
    packages = []
    for entry in json.loads(text):
        path, file = PurePosixPath(entry["path"]), str(entry["file"])
        inside = path.parts[:1] == ("node_modules",) and ".." not in path.parts
        if not inside or PurePosixPath(file).name != file:
            raise lab_error(
                "package-tree.json",
                f"entry {path} from {file} leaves the tree",
                "Build it anew",
            )
        packages.append((path, file))
    return packages


def _members(archive: tarfile.TarFile) -> Iterator[tuple[PurePosixPath, bytes]]:
    total = 0
    for member in archive:
        if not member.isfile():
            continue
        parts = PurePosixPath(member.name).parts[1:]  # the first is "package" by npm's rule
        total += member.size
        stream = archive.extractfile(member)
        if not parts or ".." in parts or stream is None or total > _MAX_PACKAGE_BYTES:
            raise lab_error(
                f"npm package {archive.name!s}",
                f"unfit entry {member.name}",
                "Build it anew",
            )
        yield PurePosixPath(*parts), stream.read()


def pack_tree(npm: Path) -> bytes:
    """Return one tar archive of the installed tree that ``npm`` (a directory) describes."""
    listing = npm / "package-tree.json"
    if not listing.is_file():
        raise lab_error(
            "npm tree of the identity provider",
            f"{listing} does not exist",
            "Give the bundle's npm-idp directory: labctl company-up --npm DIR",
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for path, file in package_tree(listing.read_text()):
            try:
                with tarfile.open(npm / file, mode="r:gz") as archive:
                    for name, content in _members(archive):
                        info = tarfile.TarInfo(str(path / name))
                        info.size, info.mode = len(content), 0o644
                        out.addfile(info, io.BytesIO(content))
            except (OSError, tarfile.TarError) as error:
                raise lab_error(f"npm package {npm / file}", str(error), "Build it anew") from error
    return buffer.getvalue()


def install_idp(host: LabHost, npm: Path, seconds: float = 30) -> None:
    """Install the identity provider's packages on company1 and start it; safe to repeat."""
    with tempfile.NamedTemporaryFile(prefix="tresor-lab-") as archive:
        archive.write(pack_tree(npm))
        archive.flush()
        script = (
            "set -e; cd /opt/company-idp; rm -rf incoming; mkdir incoming; "
            "tar -x --no-same-owner -C incoming; rm -rf node_modules; "
            "mv incoming/node_modules .; rmdir incoming; systemctl restart company-idp.service"
        )
        host.feed(["sh", "-c", script], Path(archive.name))
    deadline = time.monotonic() + seconds
    while True:
        try:
            host.run(["company-token", "batch"])
            return
        except LabError as error:
            if time.monotonic() > deadline:
                raise lab_error(
                    "identity provider on company1",
                    f"no token after {seconds:.0f} s: {error.problems[0].seen}",
                    "See labctl exec company1 journalctl -u company-idp",
                ) from error
            time.sleep(0.3)
