#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the certificates of a host, requested and installed."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_certificate_request
short_description: Keep a host's certificates; say which must be signed, install what was signed
description:
  - Installs the authority's certificate, looks at every certificate of the host and returns a
    signing request for each that is missing, changed its names, is about to end, does not fit its
    key or has another issuer. Private keys (P-256) are made on the host and never leave it.
  - A second call with O(signed) installs what the authority signed. Until then the pair in use
    stays as it is; the new key waits in C(<key>.pending).
requirements:
  - The program C(openssl), version 3 or newer, on the host.
options:
  ca_certificate:
    description: The authority's certificate in PEM.
    type: str
    required: true
  ca_path:
    description: Where to put it.
    type: path
    default: /etc/tresor/pki/ca.crt
  crl:
    description:
      - The authority's list of revoked certificates in PEM. A certificate on it is due. Empty
        where there is none; the file is left alone then.
    type: str
    default: ""
  crl_path:
    description: Where to put it.
    type: path
    default: /etc/tresor/pki/ca.crl
  certificates:
    description: The certificates that the host should hold.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The purpose, for the authority's book and for messages.
        type: str
        required: true
      key:
        description: The private key's file, C(0400).
        type: path
        required: true
      certificate:
        description: The certificate's file, C(0644).
        type: path
        required: true
      common_name:
        description: The subject's common name, at most 64 characters.
        type: str
        required: true
      names:
        description: The host names in the certificate.
        type: list
        elements: str
        required: true
      addresses:
        description: The addresses in the certificate.
        type: list
        elements: str
        default: []
      usages:
        description: What it is used for.
        type: list
        elements: str
        choices: [server, client]
        required: true
      owner:
        description: The user who owns both files.
        type: str
        default: root
      group:
        description: The group of both files.
        type: str
        default: root
  renew_before_seconds:
    description: A certificate with this many seconds left, or fewer, is renewed.
    type: int
    default: 2592000
  signed:
    description: Signed certificates to install, as P(tresor_ca#module) returned them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The purpose.
        type: str
        required: true
      certificate:
        description: The certificate in PEM.
        type: str
        required: true
      serial:
        description: Its serial number. Ignored.
        type: str
      not_after:
        description: Its end. Ignored.
        type: str
attributes:
  check_mode:
    support: full
    description: No key is made; RV(requests) is empty, RV(ignore:changed) says whether one is due.
  idempotence:
    support: full
    description: Nothing changes while no certificate is due.
author: Tresor
"""

EXAMPLES = r"""
- name: Look which certificates are due
  tresor_certificate_request:
    ca_certificate: "{{ ca_pem }}"
    certificates:
      - name: host
        key: /etc/tresor/pki/host.key
        certificate: /etc/tresor/pki/host.crt
        common_name: gpu1.site.example
        names: [gpu1.site.example, gpu1]
        addresses: [198.51.100.31]
        usages: [server, client]
  register: pki
"""

RETURN = r"""
needs_signing:
  description: Whether a certificate is due.
  returned: always
  type: bool
requests:
  description: For each certificate that is due its C(name), C(csr), C(usages) and C(reason).
  returned: always
  type: list
  elements: dict
certificates:
  description:
    - For each certificate on the host its C(name), C(not_after), C(serial) and C(fingerprint).
  returned: always
  type: list
  elements: dict
"""

import datetime as dt
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.pki import files, openssl
from ansible.module_utils.tresor.pki import request as pki_request
from ansible.module_utils.tresor.pki.errors import PkiError
from ansible.module_utils.tresor.pki.names import USAGES, host_name, identity


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "ca_certificate": {"type": "str", "required": True},
        "ca_path": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "crl": {"type": "str", "default": ""},
        "crl_path": {"type": "path", "default": "/etc/tresor/pki/ca.crl"},
        "certificates": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "key": {"type": "path", "required": True, "no_log": False},
                "certificate": {"type": "path", "required": True},
                "common_name": {"type": "str", "required": True},
                "names": {"type": "list", "elements": "str", "required": True},
                "addresses": {"type": "list", "elements": "str", "default": []},
                "usages": {
                    "type": "list",
                    "elements": "str",
                    "choices": list(USAGES),
                    "required": True,
                },
                "owner": {"type": "str", "default": "root"},
                "group": {"type": "str", "default": "root"},
            },
        },
        "renew_before_seconds": {"type": "int", "default": 2_592_000},
        "signed": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "certificate": {"type": "str", "required": True},
                "serial": {"type": "str"},
                "not_after": {"type": "str"},
            },
        },
    }


def wanted_of(entry: dict[str, Any], renew_before_seconds: int) -> pki_request.Wanted:
    """Translate one element of the option ``certificates``."""
    common_name = host_name(entry["common_name"])
    if len(common_name) > 64:
        raise PkiError(f"common_name '{common_name}' has more than 64 characters; use a short name")
    return pki_request.Wanted(
        name=entry["name"],
        key=Path(entry["key"]),
        certificate=Path(entry["certificate"]),
        common_name=common_name,
        identity=identity(entry["names"], entry["addresses"], entry["usages"]),
        renew_before=dt.timedelta(seconds=renew_before_seconds),
        owner=files.owner_ids(entry["owner"], entry["group"]),
    )


def place_authority(params: dict[str, Any], *, check_mode: bool) -> bool:
    """Install the authority's certificate; return whether that was (or would be) a change."""
    path = Path(params["ca_path"])
    pem = openssl.single_certificate(params["ca_certificate"])
    if files.read(path) == pem:
        return False
    if not check_mode:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.write(path, pem, 0o644)
    return True


def place_crl(params: dict[str, Any], *, check_mode: bool) -> bool:
    """Install the list of revoked certificates; return whether that was (or would be) a change."""
    path = Path(params["crl_path"])
    if not params["crl"]:
        return False
    pem = params["crl"].rstrip("\n") + "\n"
    if files.read(path) == pem:
        return False
    openssl.revoked_serials(pem)  # a damaged list would stop every server that reads it
    if not check_mode:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.write(path, pem, 0o644)
    return True


def install(params: dict[str, Any], wanted: list[pki_request.Wanted]) -> None:
    """Install what was signed."""
    by_name = {entry.name: entry for entry in wanted}
    for entry in params["signed"]:
        if entry["name"] not in by_name:
            raise PkiError(f"a certificate '{entry['name']}' was signed that this host never asked")
        pki_request.install(by_name[entry["name"]], entry["certificate"], Path(params["ca_path"]))


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do what the options ask; return the module's result."""
    wanted = [wanted_of(entry, params["renew_before_seconds"]) for entry in params["certificates"]]
    new_authority = place_authority(params, check_mode=check_mode)
    new_crl = place_crl(params, check_mode=check_mode)
    revoked = openssl.revoked_serials(params["crl"]) if params["crl"] else frozenset()
    changed = new_authority or new_crl
    if params["signed"] and not check_mode:
        install(params, wanted)
    changed = changed or bool(params["signed"])
    requests, certificates, due = [], [], False
    for entry in wanted:
        state = pki_request.look(entry, Path(params["ca_path"]), dt.datetime.now(dt.UTC), revoked)
        reason = state.reason
        if reason is None and new_authority and check_mode:
            reason = "another issuer"  # the file to check against is not in place in check mode
        if state.access_wrong:
            changed = True
            if not check_mode:
                files.set_access(entry.key, pki_request.KEY_MODE, entry.owner)
                files.set_access(entry.certificate, pki_request.CERTIFICATE_MODE, entry.owner)
        if reason is not None:
            due = changed = True
            if not check_mode:
                requests.append(_request(entry, reason))
        if state.certificate is not None:
            certificates.append(_describe(entry.name, state.certificate))
    if params["signed"] and due and not check_mode:
        raise PkiError(f"still due after installation: {[r['reason'] for r in requests]}")
    return {
        "changed": changed,
        "needs_signing": due,
        "requests": requests,
        "certificates": certificates,
    }


def _request(entry: pki_request.Wanted, reason: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "csr": pki_request.request(entry),
        "usages": sorted(entry.identity.usages),
        "reason": reason,
    }


def _describe(name: str, certificate: openssl.Certificate) -> dict[str, str]:
    return {
        "name": name,
        "not_after": certificate.not_after.isoformat(),
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = run(module.params, check_mode=module.check_mode)
    except PkiError as error:
        module.fail_json(msg=f"tresor_certificate_request: {error}")
    except OSError as error:
        module.fail_json(
            msg=f"tresor_certificate_request: {error.strerror}: {error.filename}",
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
