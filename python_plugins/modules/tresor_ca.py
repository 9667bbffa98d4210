#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the site's certificate authority."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_ca
short_description: Make the site's certificate authority, sign requests, revoke certificates
description:
  - With O(state=present) an elliptic-curve authority exists in O(directory); its key is encrypted
    at rest with the passphrase in O(passphrase_file), which is generated where none was supplied.
    Its list of revoked certificates, C(ca.crl), is there and good for at least half of
    O(crl_validity_seconds).
  - With O(state=signed) the requests of one host are signed, all or none. A request may ask for no
    more than O(names) and O(addresses); nothing but its public key and names enters the
    certificate. Every certificate is entered in C(issued.jsonl) before it leaves.
  - With O(state=revoked) all certificates of O(revoke_hosts) that have not ended, and those with
    O(revoke_serials), are revoked, and the list is written anew.
requirements:
  - The Python library C(cryptography) on the host that runs the module. The bastion's Ansible
    environment has it, so set C(ansible_python_interpreter) to C({{ ansible_playbook_python }}).
options:
  state:
    description: What to do.
    type: str
    choices: [present, signed, revoked]
    default: present
  directory:
    description: The authority's folder, C(0700).
    type: path
    required: true
  passphrase_file:
    description: File with the passphrase of the authority's key, at least 16 characters, C(0400).
    type: path
    required: true
  common_name:
    description: The authority's name in its certificate. Needed to make a new authority.
    type: str
  curve:
    description: Curve of a new authority's key.
    type: str
    choices: [P-256, P-384]
    default: P-384
  authority_days:
    description: Days that a new authority is valid.
    type: int
    default: 3650
  host:
    description: The host whose requests are signed, for the book and for messages.
    type: str
  requests:
    description: The signing requests, as P(tresor_certificate_request#module) returned them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The purpose of the certificate on its host.
        type: str
        required: true
      csr:
        description: The request in PEM.
        type: str
        required: true
      usages:
        description: What the certificate may be used for.
        type: list
        elements: str
        choices: [server, client]
        required: true
      reason:
        description: Why the host asks. Ignored.
        type: str
  names:
    description: Host names that the plan grants this host.
    type: list
    elements: str
    default: []
  addresses:
    description: Addresses that the plan grants this host.
    type: list
    elements: str
    default: []
  certificate_validity_seconds:
    description: Seconds that a signed certificate is valid, counted from now.
    type: int
    default: 7776000
  crl_validity_seconds:
    description: Seconds that a list of revoked certificates is good for.
    type: int
    default: 2592000
  revoke_hosts:
    description: Inventory names of hosts whose certificates are revoked.
    type: list
    elements: str
    default: []
  revoke_serials:
    description: Serial numbers, in hex, of certificates that are revoked.
    type: list
    elements: str
    default: []
  revoke_reason:
    description: Why, for the book.
    type: str
    default: unspecified
attributes:
  check_mode:
    support: full
    description: Nothing is made or signed; RV(certificates) is empty then.
  idempotence:
    support: partial
    description: O(state=signed) signs whatever it is given; the others are idempotent.
author: Tresor
"""

EXAMPLES = r"""
- name: Have an authority
  tresor_ca:
    directory: /etc/tresor/pki/ca
    passphrase_file: /etc/tresor/pki/ca/passphrase
    common_name: Tresor site CA example

- name: Sign what gpu1 asks for
  tresor_ca:
    state: signed
    directory: /etc/tresor/pki/ca
    passphrase_file: /etc/tresor/pki/ca/passphrase
    host: gpu1
    requests: "{{ pki.requests }}"
    names: [gpu1.site.example, gpu1]
    addresses: [198.51.100.31]
"""

RETURN = r"""
ca_certificate:
  description: The authority's certificate in PEM; empty in check mode while there is none.
  returned: always
  type: str
ca_fingerprint:
  description: SHA-256 of that certificate, hex.
  returned: always
  type: str
ca_not_after:
  description: The end of that certificate, ISO 8601, UTC.
  returned: always
  type: str
crl:
  description: The list of revoked certificates in PEM; empty in check mode while there is none.
  returned: always
  type: str
revoked:
  description: The serials that O(state=revoked) revoked, or would revoke.
  returned: always
  type: list
  elements: str
certificates:
  description: What was signed, each with C(name), C(certificate), C(serial), C(not_after).
  returned: always
  type: list
  elements: dict
"""

import datetime as dt
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.tresor.pki.errors import PkiError
from ansible.module_utils.tresor.pki.names import identity
from ansible.module_utils.tresor.pki.place import Place

try:
    from ansible.module_utils.tresor.pki import authority

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "state": {
            "type": "str",
            "choices": ["present", "signed", "revoked"],
            "default": "present",
        },
        "directory": {"type": "path", "required": True},
        "passphrase_file": {"type": "path", "required": True, "no_log": False},
        "common_name": {"type": "str"},
        "curve": {"type": "str", "choices": ["P-256", "P-384"], "default": "P-384"},
        "authority_days": {"type": "int", "default": 3650},
        "host": {"type": "str"},
        "requests": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "csr": {"type": "str", "required": True},
                "usages": {
                    "type": "list",
                    "elements": "str",
                    "choices": ["server", "client"],
                    "required": True,
                },
                "reason": {"type": "str"},
            },
        },
        "names": {"type": "list", "elements": "str", "default": []},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "certificate_validity_seconds": {"type": "int", "default": 7_776_000},
        "crl_validity_seconds": {"type": "int", "default": 2_592_000},
        "revoke_hosts": {"type": "list", "elements": "str", "default": []},
        "revoke_serials": {"type": "list", "elements": "str", "default": []},
        "revoke_reason": {"type": "str", "default": "unspecified"},
    }


def present(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Have an authority; return the module's result."""
    place = _place(params)
    exists = place.certificate.exists() or place.key.exists()
    if not exists:
        if not params["common_name"]:
            raise PkiError("common_name is needed to make a new authority")
        if check_mode:
            return _result(None, changed=True)
        lifetime = dt.timedelta(days=params["authority_days"])
        authority.create(place, params["common_name"], params["curve"], lifetime)
    opened = authority.open_authority(place)
    crl_lifetime = _crl_lifetime(params)
    due = opened.crl_due(crl_lifetime)
    if due is not None and not check_mode:
        opened.write_crl(crl_lifetime)
    return _result(place, changed=not exists or due is not None)


def signed(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Sign the requests of one host; return the module's result."""
    place = _place(params)
    if not params["requests"]:
        return _result(place, changed=False)
    if check_mode:
        return _result(place, changed=True)
    requests = [
        authority.Request(
            name=entry["name"],
            csr=entry["csr"],
            granted=identity(params["names"], params["addresses"], entry["usages"]),
        )
        for entry in params["requests"]
    ]
    lifetime = dt.timedelta(seconds=params["certificate_validity_seconds"])
    certificates = authority.open_authority(place).sign(params["host"], requests, lifetime)
    return {
        **_result(place, changed=True),
        "certificates": [asdict(certificate) for certificate in certificates],
    }


def revoked(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Revoke certificates; return the module's result."""
    place = _place(params)
    opened = authority.open_authority(place)
    if check_mode:
        serials = opened.would_revoke(params["revoke_hosts"], params["revoke_serials"])
    else:
        serials = opened.revoke(
            params["revoke_hosts"],
            params["revoke_serials"],
            params["revoke_reason"],
            _crl_lifetime(params),
        )
    return {**_result(place, changed=bool(serials)), "revoked": serials}


def _crl_lifetime(params: dict[str, Any]) -> dt.timedelta:
    return dt.timedelta(seconds=params["crl_validity_seconds"])


def _place(params: dict[str, Any]) -> Place:
    return Place(Path(params["directory"]), Path(params["passphrase_file"]))


def _result(place: Place | None, *, changed: bool) -> dict[str, Any]:
    opened = authority.open_authority(place) if place is not None else None
    return {
        "changed": changed,
        "ca_certificate": place.certificate.read_text() if place is not None else "",
        "ca_fingerprint": opened.fingerprint if opened is not None else "",
        "ca_not_after": opened.not_after.isoformat() if opened is not None else "",
        "certificates": [],
        "crl": place.crl.read_text() if place is not None and place.crl.exists() else "",
        "revoked": [],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "signed", ["host"])],
    )
    if IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=IMPORT_ERROR)
    action = {"present": present, "signed": signed, "revoked": revoked}[module.params["state"]]
    try:
        result = action(module.params, check_mode=module.check_mode)
    except PkiError as error:
        module.fail_json(msg=f"tresor_ca: {error}")
    except OSError as error:
        module.fail_json(msg=f"tresor_ca: {error.strerror}: {error.filename}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
