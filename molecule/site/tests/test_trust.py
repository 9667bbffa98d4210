"""Time, names, certificates and backup, seen from the hosts and from the company's side."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

HOSTS = ("bastion", "gateway1", "gpu1", "vector1", "ops1")
COMPANY_TIME = {"198.51.100.130", "2001:db8:52::130"}

Connect = Callable[[str], Host]
Tresor = Callable[[str], tuple[int, str]]


# --- names and time


@pytest.mark.parametrize("name", HOSTS)
def test_names_come_from_the_host_itself(connect: Connect, name: str) -> None:
    host = connect(name)
    assert host.run("grep -q ^nameserver /etc/resolv.conf").rc != 0
    for wanted in ("llm.site.example", "bastion1.site.example", "idp.company.example"):
        assert host.run(f"getent ahosts {wanted}").rc == 0, wanted
    assert host.run("getent ahosts canary.example").rc == 2
    rules = host.check_output("iptables-save; ip6tables-save")
    assert "--dport 443" in rules or "--dport 22" in rules
    assert "--dport 53 " not in rules


@pytest.mark.parametrize("name", HOSTS)
def test_the_companys_time_is_the_only_source(connect: Connect, name: str) -> None:
    rows = [row.split(",") for row in connect(name).check_output("chronyc -c -n sources").split()]
    assert rows
    assert {row[2] for row in rows} <= COMPANY_TIME
    assert [row[2] for row in rows if row[1] == "*"], "no source is selected"
    listening = connect(name).check_output("ss -Hlnu")
    assert not [line for line in listening.splitlines() if line.split()[3].endswith(":123")]


def test_clock_that_is_off_is_visible(connect: Connect) -> None:
    host = connect("vector1")
    good = float(host.check_output("chronyc -c tracking").split(",")[5])
    assert abs(good) < 1
    # Nobody in the lab may set a clock, so the server's is made to look five seconds away.
    host.check_output("cp -a /etc/chrony/chrony.conf /run/chrony.conf.kept")
    try:
        host.check_output("sed -i 's/iburst/iburst offset 5/' /etc/chrony/chrony.conf")
        host.check_output("systemctl restart chrony && chronyc waitsync 20 0 0 1")
        assert abs(float(host.check_output("chronyc -c tracking").split(",")[5])) > 4
    finally:
        host.check_output("cp -a /run/chrony.conf.kept /etc/chrony/chrony.conf")
        host.check_output("systemctl restart chrony && chronyc waitsync 20 0 0 1")


# --- the site's own certificates


def test_renewal_runs_by_timer(connect: Connect) -> None:
    bastion = connect("bastion")
    timer = bastion.service("tresor-renew.timer")
    assert timer.is_enabled
    assert timer.is_running
    assert bastion.check_output("systemctl show -p Result --value tresor-renew") == "success"


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_has_a_current_list_of_what_was_revoked(connect: Connect, name: str) -> None:
    host = connect(name)
    verify = "openssl crl -in /etc/tresor/pki/ca.crl -CAfile /etc/tresor/pki/ca.crt -noout"
    assert "verify OK" in host.run(verify).stderr
    end = host.check_output(
        'date -d "$(openssl crl -in /etc/tresor/pki/ca.crl -noout -nextupdate | cut -d= -f2)" +%s'
    )
    assert int(end) > time.time() + 86400


STORE = "https://bastion1.site.example:8443/apt/debian-13/dists/site/Release"
METRICS = "https://ops1.site.example:9100/node"


def answer(host: Host, url: str, certificate: str, key: str) -> str:
    """Return the status for a client with this certificate."""
    command = (
        f"curl -s -o /dev/null -w '%{{http_code}}' -m 10 --cacert /etc/tresor/pki/ca.crt {url}"
    )
    return host.check_output(f"{command} --cert {certificate} --key {key}")


def test_revoked_certificate_is_refused_and_its_host_gets_a_new_one(
    connect: Connect, tresor: Tresor
) -> None:
    host = connect("ops1")
    host.check_output(
        "install -d -m 0700 /run/revoked && cp -p /etc/tresor/pki/host.* /run/revoked/"
    )
    old = ("/run/revoked/host.crt", "/run/revoked/host.key")
    assert [answer(host, url, *old) for url in (STORE, METRICS)] == ["200", "200"]
    serial = host.check_output("openssl x509 -in /run/revoked/host.crt -noout -serial").split("=")[
        1
    ]
    rc, said = tresor(f"run operate/revoke.yml -- -e tresor_revoke_serials={serial}")
    assert rc == 0, said
    try:
        assert [answer(host, url, *old) for url in (STORE, METRICS)] == ["400", "400"]
        own = ("/etc/tresor/pki/host.crt", "/etc/tresor/pki/host.key")
        assert [answer(host, url, *own) for url in (STORE, METRICS)] == ["200", "200"]
        assert host.run("apt-get update").rc == 0
    finally:
        host.check_output("rm -r /run/revoked")


def test_revoking_what_was_never_issued_is_refused(tresor: Tresor) -> None:
    rc, said = tresor("run operate/revoke.yml -- -e tresor_revoke_hosts=gpu99")
    assert rc != 0
    assert "gpu99: this authority never issued" in said


# --- backup


def test_backup_opens_for_its_recipient_and_a_damaged_one_is_refused(
    connect: Connect,
    tresor: Tresor,
) -> None:
    bastion = connect("bastion")
    work = "/run/backup-test"
    bastion.check_output(f"rm -rf {work} && install -d -m 0700 {work}")
    bastion.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
        f" -keyout {work}/safe.key -out {work}/safe.pem -subj /CN=safe"
    )
    given = json.dumps(
        {"site_backup_recipients": [f"{work}/safe.pem"], "site_backup_directory": f"{work}/backups"}
    )
    try:
        rc, said = tresor(f"run operate/backup.yml -- -e '{given}'")
        assert rc == 0, said
        (backup,) = bastion.check_output(f"ls -d {work}/backups/2*").split()
        opened = f"openssl cms -decrypt -binary -inform DER -in {backup}/part-0001.cms"
        listed = bastion.check_output(f"{opened} -inkey {work}/safe.key | tar tf -").split()
        for wanted in ("configuration/pki/ca/ca.key", "store/state/highwater.json"):
            assert wanted in listed
        assert "audit/gateway1.tar" in listed
        restore = (
            f"run operate/restore.yml -- --check -e tresor_restore_backup={backup}"
            f" -e tresor_restore_key={work}/safe.key -e tresor_restore_site="
        )
        rc, said = tresor(f"{restore}lab")
        assert rc == 0, said
        rc, said = tresor(f"{restore}other")
        assert rc != 0
        assert "backup of the site 'lab'" in said
        bastion.check_output(f"printf x | dd of={backup}/part-0001.cms bs=1 seek=3000 conv=notrunc")
        rc, said = tresor(f"{restore}lab")
        assert rc != 0
        assert "damaged" in said
    finally:
        bastion.check_output(f"rm -rf {work}")
