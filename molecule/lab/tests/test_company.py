"""The company: certificates, clients, and the packages of its identity provider."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab import company
from lab.company import CLIENTS, Company, bastion_files, credentials, idp_config, pack_tree
from lab.errors import LabError
from lab.seed import File
from lab.topology import IDP_NAME


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company.load_or_create(tmp_path_factory.mktemp("company") / "company.json")


def test_company_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "company.json"
    assert Company.load_or_create(path) == Company.load_or_create(path)
    assert path.stat().st_mode & 0o077 == 0


def test_certificate_of_the_provider_is_accepted_by_a_strict_client(
    made: Company, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(made.ca_certificate)
    (tmp_path / "idp.pem").write_text(made.idp_certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", "sslserver"]
    command += ["-verify_hostname", IDP_NAME, "idp.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_probe_clients_get_what_their_names_say(made: Company) -> None:
    config = idp_config(made)
    clients = config["clients"]
    assert isinstance(clients, list)
    by_id = {client["id"]: client for client in clients}
    assert by_id["verify-expired"]["token_seconds"] == 1
    assert by_id["verify-wrongaud"]["audience"] == "urn:other:api"
    assert by_id["verify-noaccess"]["groups"] == ("guests",)
    assert by_id["verify-allowed"]["audience"] == "urn:tresor:gateway"
    assert by_id["cli"]["secret"] is None


def test_page_of_the_gateway_is_a_client_that_is_told_of_logouts(made: Company) -> None:
    clients = idp_config(made)["clients"]
    assert isinstance(clients, list)
    [portal] = [client for client in clients if client["id"] == company.PORTAL]
    assert portal["redirect_uris"] == ["https://llm.site.example/callback"]
    assert portal["backchannel_logout_uri"] == "https://llm.site.example/backchannel-logout"
    [secret] = [
        entry
        for entry in bastion_files(made)
        if isinstance(entry, File) and entry.path.endswith("portal-client-secret")
    ]
    assert (secret.content, secret.mode) == (portal["secret"], 0o400)


def test_machines_certificate_is_a_clients_and_no_servers(made: Company, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(made.ca_certificate)
    (tmp_path / "leaf.pem").write_text(made.reporter_certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem"]
    for purpose, good in (("sslclient", True), ("sslserver", False)):
        full = [*command, "-purpose", purpose, "leaf.pem"]
        done = subprocess.run(full, cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode == 0) == good, purpose


def test_bastion_gets_the_probes_secrets_and_no_others(made: Company) -> None:
    entries = [entry for entry in bastion_files(made) if isinstance(entry, File)]
    secrets = {entry.path: entry for entry in entries if "secrets/verify/" in entry.path}
    names = {Path(path).name for path in secrets}
    assert names == {client.name for client in CLIENTS if client.name.startswith("verify-")}
    assert all(entry.mode == 0o400 for entry in secrets.values())


def test_credentials_hold_every_client_and_user(made: Company) -> None:
    entries = credentials(made)["entries"]
    assert isinstance(entries, dict)
    assert {"alice", "bob", "batch", "verify-wrongaud"} <= set(entries)
    assert entries["alice"]["grant"] == "password"


def npm_package(directory: Path, file: str, members: dict[str, bytes]) -> None:
    with tarfile.open(directory / file, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def describe(directory: Path, path: str, file: str) -> None:
    entry = {"path": path, "file": file, "name": "a", "version": "1.0.0"}
    (directory / "package-tree.json").write_text(json.dumps([entry]))


def test_packages_are_unpacked_to_their_places(tmp_path: Path) -> None:
    npm_package(tmp_path, "a-1.0.0.tgz", {"package/lib/x.js": b"x", "package/package.json": b"{}"})
    describe(tmp_path, "node_modules/b/node_modules/a", "a-1.0.0.tgz")
    with tarfile.open(fileobj=io.BytesIO(pack_tree(tmp_path))) as archive:
        assert archive.getnames() == [
            "node_modules/b/node_modules/a/lib/x.js",
            "node_modules/b/node_modules/a/package.json",
        ]


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/etc", "a.tgz"),
        ("node_modules/../../etc", "a.tgz"),
        ("other/a", "a.tgz"),
        ("node_modules/a", "../a.tgz"),
    ],
)
def test_tree_that_leaves_its_directory_is_refused(tmp_path: Path, path: str, file: str) -> None:
    describe(tmp_path, path, file)
    with pytest.raises(LabError, match="leaves the tree"):
        pack_tree(tmp_path)


def test_package_that_leaves_its_directory_is_refused(tmp_path: Path) -> None:
    npm_package(tmp_path, "a-1.0.0.tgz", {"package/../../x": b"x"})
    describe(tmp_path, "node_modules/a", "a-1.0.0.tgz")
    with pytest.raises(LabError, match="unfit entry"):
        pack_tree(tmp_path)


def test_oversized_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "_MAX_PACKAGE_BYTES", 3)
    npm_package(tmp_path, "a-1.0.0.tgz", {"package/x": b"four"})
    describe(tmp_path, "node_modules/a", "a-1.0.0.tgz")
    with pytest.raises(LabError, match="unfit entry"):
        pack_tree(tmp_path)


def test_missing_tree_says_which_option_to_give(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="--npm"):
        pack_tree(tmp_path)


def test_missing_package_file_is_named(tmp_path: Path) -> None:
    describe(tmp_path, "node_modules/a", "a-1.0.0.tgz")
    with pytest.raises(LabError, match=r"a-1\.0\.0\.tgz"):
        pack_tree(tmp_path)


def test_company_signs_what_a_gateway_asks_for(made: Company, tmp_path: Path) -> None:
    name = "llm.site.example"
    request = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    request += ["-noenc", "-keyout", "k.pem", "-subj", f"/CN={name}"]
    request += ["-addext", f"subjectAltName=DNS:{name}"]
    done = subprocess.run(request, cwd=tmp_path, capture_output=True, text=True, check=True)
    (tmp_path / "leaf.pem").write_text(company.sign_request(made, done.stdout))
    (tmp_path / "ca.pem").write_text(made.ca_certificate)
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", "sslserver"]
    verify += ["-verify_hostname", name, "leaf.pem"]
    done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(LabError):
        company.sign_request(made, "nonsense")


@pytest.mark.parametrize(
    ("revoke", "days", "says"), [(False, 7, "OK"), (True, 7, "revoked"), (False, -1, "expired")]
)
def test_company_revokes(made: Company, tmp_path: Path, revoke: bool, days: int, says: str) -> None:
    revoked = [made.idp_certificate] if revoke else []
    (tmp_path / "crl.pem").write_text(company.revocation_list(made, revoked, days))
    (tmp_path / "ca.pem").write_text(made.ca_certificate)
    (tmp_path / "idp.pem").write_text(made.idp_certificate)
    verify = ["openssl", "verify", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check"]
    done = subprocess.run(
        [*verify, "idp.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert says in done.stdout + done.stderr
