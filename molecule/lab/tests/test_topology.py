"""The address plan is consistent and matches what the site's inventory relies on."""

from __future__ import annotations

from itertools import combinations

import pytest

from lab.network import networkd_file, port_name, wire_script
from lab.topology import (
    BASTION,
    COMPANY1,
    GATEWAY1,
    HOSTS,
    NETWORKS,
    ROUTER1,
    SITE_HOSTS,
    find,
    names_of,
)

INTERFACE_NAME_LIMIT = 15


def test_every_address_mac_and_number_is_used_once() -> None:
    nics = [(host, nic) for host in HOSTS for nic in host.nics]
    assert len({nic.ipv4.ip for _, nic in nics}) == len(nics)
    assert len({nic.ipv6.ip for _, nic in nics}) == len(nics)
    assert len({host.mac(nic) for host, nic in nics}) == len(nics)
    assert len({host.number for host in HOSTS}) == len(HOSTS)


def test_every_address_lies_in_its_network() -> None:
    for host in HOSTS:
        for nic in host.nics:
            assert nic.ipv4.network == nic.network.ipv4
            assert nic.ipv6.network == nic.network.ipv6


def test_networks_do_not_overlap() -> None:
    for one, other in combinations(NETWORKS, 2):
        assert not one.ipv4.overlaps(other.ipv4)
        assert not one.ipv6.overlaps(other.ipv6)


def test_router_has_the_gateway_address_of_every_network() -> None:
    assert [nic.network for nic in ROUTER1.nics] == list(NETWORKS)
    for nic in ROUTER1.nics:
        assert str(nic.ipv4.ip) == nic.network.gateway4
        assert str(nic.ipv6.ip) == nic.network.gateway6


def test_interface_names_fit_the_kernels_limit() -> None:
    for host in HOSTS:
        for nic in host.nics:
            assert len(nic.name) <= INTERFACE_NAME_LIMIT
            assert len(port_name(host, nic)) <= INTERFACE_NAME_LIMIT


def test_the_site_is_the_six_managed_hosts() -> None:
    names = {host.hostname for host in SITE_HOSTS}
    assert names == {"bastion1", "gateway1", "gpu1", "gpu2", "vector1", "ops1"}


@pytest.mark.parametrize("name", ["bastion", "bastion1"])
def test_bastion_answers_to_lab_name_and_hostname(name: str) -> None:
    assert find(name) is BASTION


def test_unknown_host_is_not_found() -> None:
    assert find("gpu9") is None


def test_service_names_belong_to_their_hosts() -> None:
    assert "llm.site.example" in names_of(GATEWAY1)
    assert {"idp.company.example", "ntp.company.example"} <= set(names_of(COMPANY1))


def test_host_gets_static_addresses_and_the_router_as_gateway() -> None:
    text = networkd_file(GATEWAY1, GATEWAY1.nics[0])
    assert "Name=site0" in text
    assert "Address=198.51.100.20/25" in text
    assert "Address=2001:db8:51::20/64" in text
    assert "Gateway=198.51.100.1\n" in text
    assert "Gateway=2001:db8:51::1\n" in text


def test_boot_does_not_wait_for_address_detection_or_advertisements() -> None:
    text = networkd_file(GATEWAY1, GATEWAY1.nics[0])
    assert "DuplicateAddressDetection=none" in text
    assert "IPv6AcceptRA=no" in text


def test_router_has_no_gateway() -> None:
    assert not any("Gateway=" in networkd_file(ROUTER1, nic) for nic in ROUTER1.nics)


def test_router_is_wired_to_every_bridge() -> None:
    script = wire_script(ROUTER1, "x-router1")
    for network in NETWORKS:
        assert f"master {network.name} up" in script
    assert script.count("netns x-router1") == len(NETWORKS)
