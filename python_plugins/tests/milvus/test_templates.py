"""What the role milvus writes in each form, and what its preflight refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.play_call import run_play

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "milvus"
DIGEST = "ab" * 32
ENVIRONMENTS = {
    name: {"part": f"wheels-{name}", "version": version, "requirements_sha256": DIGEST}
    for name, version in (
        ("milvus-lite", "3.2.2"),
        ("milvus-host", "2.6.3"),
        ("milvus-server", "2.3.5"),
    )
}
GIVEN: dict[str, Any] = {
    "milvus_environments": ENVIRONMENTS,
    "milvus_store_url": "https://bastion1.site.example:8443",
    "milvus_server_name": "vector1.site.example",
    "milvus_addresses": ["198.51.100.40", "2001:db8:51::40"],
    "milvus_allowed_names": ["bastion1.site.example"],
}
FORMS: dict[str, dict[str, Any]] = {
    "lite": {"milvus_form": "lite"},
    "wheel": {"milvus_form": "standalone", "milvus_server_source": "wheel"},
    "deb": {"milvus_form": "standalone", "milvus_server_version": "2.6.9"},
}


def play(folder: Path, given: dict[str, Any], tasks: list[dict[str, Any]]) -> Any:
    """Run tasks with the role's variables; return the finished process."""
    (folder / "given.yml").write_text(yaml.safe_dump(GIVEN | given))
    content = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"role_path": str(ROLE)},
        "vars_files": [
            str(ROLE / "defaults/main.yml"),
            str(ROLE / "vars/main.yml"),
            str(folder / "given.yml"),
        ],
        "tasks": tasks,
    }
    # Where the templates' own includes search, as they do in the role.
    (folder / "templates").symlink_to(ROLE / "templates")
    return run_play(content, folder / "play.yml")


def units(form: str) -> list[str]:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    found: list[str] = variables["__milvus_form_units"]["lite" if form == "lite" else "standalone"]
    return found


@pytest.fixture(scope="module", params=list(FORMS))
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Render all files of one form; return the form and a folder with the files by their name."""
    folder = tmp_path_factory.mktemp(request.param)
    sources = [f"etc/systemd/system/{unit}.j2" for unit in units(request.param)]
    own = "etc/tresor/milvus/"
    sources += (
        [f"{own}nginx.conf.j2"]
        if request.param == "lite"
        else [f"{own}server/milvus.yaml.j2", f"{own}server/glog.conf.j2"]
    )
    copies = [
        {
            "ansible.builtin.template": {
                "src": str(ROLE / "templates" / source),
                "dest": f"{folder}/{Path(source).stem}",
                "mode": "0600",
            }
        }
        for source in sources
    ]
    done = play(folder, FORMS[request.param], copies)
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder


def sections(text: str) -> dict[str, list[str]]:
    """Return the values of a unit by ``Key``, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_server_has_a_network_of_its_own(rendered: Any) -> None:
    form, folder = rendered
    server = sections((folder / "tresor-milvus.service").read_text())
    assert server["PrivateNetwork"] == ["yes"]
    assert server["User"] == ["milvus"]
    assert server["Type"] == ["notify"]
    assert server["RestartPreventExitStatus"] == ["78"]
    line = server["ExecStart"][0].split()
    assert line[line.index("--data") + 1] == (
        f"/var/lib/tresor/milvus/{'lite' if form == 'lite' else 'standalone'}"
    )
    wanted = {"lite": "3.2.2", "wheel": "2.3.5", "deb": "2.6.9"}[form]
    assert line[line.index("--program-version") + 1] == wanted
    families = server["RestrictAddressFamilies"][0].split()
    assert ("AF_INET" in families) == (form != "lite")


def test_every_unit_and_file_of_the_form_is_whole(rendered: Any) -> None:
    form, folder = rendered
    for unit in units(form):
        text = (folder / unit).read_text()
        assert "{{" not in text
        assert "[Install]" in text
        if unit.endswith(".service"):
            found = sections(text)
            assert found["NoNewPrivileges"] == ["yes"], unit
            assert found["CapabilityBoundingSet"] == [""], unit
            assert all(word.startswith("/") for word in (v.split()[0] for v in found["ExecStart"]))


def test_units_are_understood_by_systemd(rendered: Any) -> None:
    form, folder = rendered
    # Programs and users of the host are not here: only what systemd says about keys and values.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(folder / unit) for unit in units(form))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    for word in ("Unknown", "Failed to parse", "Invalid", "ignoring"):
        assert word not in done.stderr, done.stderr


def test_password_is_a_credential_of_the_main_process(rendered: Any) -> None:
    form, folder = rendered
    if form == "lite":
        assert "root-password" not in (folder / "tresor-milvus.service").read_text()
        return
    server = sections((folder / "tresor-milvus.service").read_text())
    assert "root-password:/etc/tresor/secrets/milvus/root-password" in server["LoadCredential"]
    assert "--password-file %d/root-password" in server["ExecStart"][0]
    # systemd 252 gives credentials to no process but that one.
    assert "ExecStartPost" not in server
    assert server["KillMode"] == ["mixed"]
    program = {
        "wheel": "/opt/tresor/milvus-server/current/bin/milvus",
        "deb": "/usr/bin/milvus",
    }[form]
    assert f"--program {program} " in server["ExecStart"][0]


def test_entry_waits_for_the_secured_server(rendered: Any) -> None:
    form, folder = rendered
    if form == "lite":
        assert not (folder / "tresor-milvus-entry.service").exists()
        return
    entry = sections((folder / "tresor-milvus-entry.service").read_text())
    assert "tresor-milvus.service" in entry["Requires"][0].split()
    assert "tresor-milvus.service" in entry["After"][0].split()
    assert set(entry["JoinsNamespaceOf"][0].split()) == {
        "tresor-milvus.service",
        "tresor-milvus-watch.service",
    }
    # Of systemd 252, the program that carries the bytes never says that it is ready.
    assert entry["Type"] == ["exec"]
    ports = sections((folder / "tresor-milvus-entry.socket").read_text())["ListenStream"]
    assert ports == ["198.51.100.40:19530", "[2001:db8:51::40]:19530"]


def test_server_has_users_mutual_tls_and_refuses_writes_at_first(rendered: Any) -> None:
    form, folder = rendered
    if form == "lite":
        assert not (folder / "milvus.yaml").exists()
        return
    text = (folder / "milvus.yaml").read_text()
    # The space guard replaces exactly this.
    assert text.count("forceDeny: true") == 1
    config = yaml.safe_load(text)
    assert config["common"]["security"] == {"authorizationEnabled": True, "tlsMode": 2}
    assert config["tls"]["caPemPath"] == "/etc/tresor/pki/ca.crt"
    assert config["tls"]["serverKeyPath"].startswith("/run/credentials/tresor-milvus.service/")
    assert config["proxy"]["http"] == {"enabled": False}
    assert config["proxy"]["port"] == 19530
    assert config["quotaAndLimits"]["enabled"] is True
    data = "/var/lib/tresor/milvus/standalone"
    assert config["etcd"]["data"]["dir"] == f"{data}/etcd"
    assert config["localStorage"]["path"] == f"{data}/storage"
    modern = form == "deb"
    assert config["mq"]["type"] == ("woodpecker" if modern else "rocksmq")
    assert ("woodpecker" in config, "streamingNode" in config) == (modern, modern)
    assert ("rocksmq" in config, "indexNode" in config) == (not modern, not modern)


def test_lite_is_entered_with_a_certificate_that_is_not_revoked(rendered: Any) -> None:
    form, folder = rendered
    if form != "lite":
        assert not (folder / "nginx.conf").exists()
        return
    lines = [line.strip() for line in (folder / "nginx.conf").read_text().splitlines()]
    assert "ssl_verify_client on;" in lines
    assert "ssl_client_certificate /etc/tresor/pki/ca.crt;" in lines
    assert "ssl_crl /etc/tresor/pki/ca.crl;" in lines
    assert "default 0;" in lines
    assert '"CN=bastion1.site.example" 1;' in lines
    assert [line for line in lines if line.startswith("listen")] == [
        "listen 198.51.100.40:19530 ssl http2;",
        "listen [2001:db8:51::40]:19530 ssl http2;",
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"milvus_metrics_port": 19530}, "must be three different ports"),
    ({"milvus_port": 9091}, "must be three different ports"),
    ({"milvus_port": 443}, "from 1024 to 65535"),
    # A port that the server takes inside its own network.
    ({"milvus_form": "standalone", "milvus_port": 19531}, "the server's own"),
    ({"milvus_addresses": ["0.0.0.0"]}, "no wildcard"),  # noqa: S104 # it is refused
    ({"milvus_addresses": []}, "name at least one address"),
    ({"milvus_minimum_free_mb": 1}, "write 64 or more"),
    ({"milvus_form": "standalone"}, "write milvus_server_version such as 2.6.9"),
    (
        {"milvus_form": "standalone", "milvus_server_version": "2.6"},
        "write milvus_server_version such as 2.6.9",
    ),
    ({"milvus_prot": 19530}, "Unknown: milvus_prot"),
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Run the preflight once for each form and each refused case; return what each one said."""
    cases = [*FORMS.values(), *(given for given, _ in REFUSED)]
    folder = tmp_path_factory.mktemp("preflight")
    done = play(
        folder,
        {},
        [
            {
                "block": [
                    {"ansible.builtin.include_tasks": str(ROLE / "tasks/preflight.yml")},
                    {"ansible.builtin.set_fact": {f"verdict_{number}": "taken"}},
                ],
                "rescue": [
                    {
                        "ansible.builtin.set_fact": {
                            f"verdict_{number}": "{{ ansible_failed_result.msg }}"
                        }
                    }
                ],
                "vars": given,
            }
            for number, given in enumerate(cases)
        ]
        + [
            {
                "ansible.builtin.copy": {
                    "content": "{{ query('ansible.builtin.vars', *names) | to_json }}",
                    "dest": str(folder / "verdicts.json"),
                    "mode": "0600",
                },
                "vars": {"names": [f"verdict_{number}" for number in range(len(cases))]},
            }
        ],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[str] = json.loads((folder / "verdicts.json").read_text())
    return found


@pytest.mark.parametrize("number", range(len(FORMS)), ids=list(FORMS))
def test_preflight_takes_each_form(number: int, verdicts: list[str]) -> None:
    assert verdicts[number] == "taken"


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[said for _, said in REFUSED])
def test_preflight_refuses(number: int, verdicts: list[str]) -> None:
    assert REFUSED[number][1] in " ".join(verdicts[len(FORMS) + number].split())
