#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the certificate that users see, from the company's PKI."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_user_certificate
short_description: Request, check, install and take back the certificate that users see
description:
  - With O(state=requested) a private key (P-256) is made on the gateway, where it stays, and a
    signing request for O(names) is returned.
  - With O(state=checked) O(chain) is checked; with O(state=installed) it is checked and swapped in
    together with its key. It must belong to the waiting key or the one in use, be for the first of
    O(names), be complete up to O(ca), be within its dates and made for TLS servers. Otherwise the
    module fails, and nothing changes.
  - With O(state=rolled_back) the pair that was in use before is in use again.
requirements:
  - The program C(openssl), version 3 or newer.
options:
  state:
    description: What to do.
    type: str
    choices: [requested, checked, installed, rolled_back]
    required: true
  directory:
    description: Folder of keys and certificates. C(current) is a link to the pair in use.
    type: path
    default: /etc/tresor/user_certificate
  names:
    description: The host names, the one that users call first.
    type: list
    elements: str
    required: true
  new_key:
    description: Whether O(state=requested) makes a new key although a request waits.
    type: bool
    default: false
  chain:
    description: The certificate in PEM, then the issuers in between.
    type: str
  ca:
    description: The company's root in PEM.
    type: str
  min_validity_seconds:
    description: A certificate that ends sooner is refused.
    type: int
    default: 604800
attributes:
  check_mode:
    support: full
    description: A chain is checked; no key, request or link is made.
  idempotence:
    support: partial
    description: O(state=rolled_back) swaps each time.
author: Tresor
"""

EXAMPLES = r"""
- name: Make the key and the request
  tresor_user_certificate:
    state: requested
    names: [llm.site.example]
  register: request

- name: Install what the company signed
  tresor_user_certificate:
    state: installed
    names: [llm.site.example]
    chain: "{{ lookup('ansible.builtin.file', '/var/lib/tresor/user_certificate/gateway1.pem') }}"
    ca: "{{ lookup('ansible.builtin.file', '/etc/tresor/trust/company-ca.pem') }}"
"""

RETURN = r"""
csr:
  description: The signing request in PEM; empty unless O(state=requested), and in check mode.
  returned: success
  type: str
serial:
  description: Serial number, in hex, of the certificate that was checked.
  returned: success
  type: str
not_after:
  description: Its end, ISO 8601, UTC.
  returned: success
  type: str
in_use:
  description: Whether there is a pair in use now.
  returned: success
  type: bool
"""

import datetime as dt
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.pki import user_certificate
from ansible.module_utils.tresor.pki.errors import PkiError
from ansible.module_utils.tresor.pki.names import host_name


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "state": {
            "type": "str",
            "choices": ["requested", "checked", "installed", "rolled_back"],
            "required": True,
        },
        "directory": {"type": "path", "default": "/etc/tresor/user_certificate"},
        "names": {"type": "list", "elements": "str", "required": True},
        "new_key": {"type": "bool", "default": False},
        "chain": {"type": "str"},
        "ca": {"type": "str"},
        "min_validity_seconds": {"type": "int", "default": 604_800},
    }


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do what the options ask; return the module's result."""
    place = user_certificate.Place(Path(params["directory"]))
    names = [host_name(name) for name in params["names"]]
    result: dict[str, Any] = {"changed": False, "csr": "", "serial": "", "not_after": ""}
    if params["state"] == "requested":
        if check_mode:
            result["changed"] = params["new_key"] or not place.request.is_file()
        else:
            result["csr"], result["changed"] = user_certificate.request(
                place, names, anew=params["new_key"]
            )
    elif params["state"] == "rolled_back":
        result["changed"] = True
        if not check_mode:
            user_certificate.roll_back(place)
    else:
        judged = user_certificate.judge(
            place,
            params["chain"],
            params["ca"],
            names[0],
            now=dt.datetime.now(dt.UTC),
            min_validity=dt.timedelta(seconds=params["min_validity_seconds"]),
        )
        result["serial"], result["not_after"] = judged.serial, judged.not_after.isoformat()
        if params["state"] == "installed" and not user_certificate.in_use(place, judged):
            result["changed"] = True
            if not check_mode:
                user_certificate.install(place, judged)
    result["in_use"] = (place.current / "tls.crt").is_file()
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[
            ("state", "checked", ["chain", "ca"]),
            ("state", "installed", ["chain", "ca"]),
        ],
    )
    try:
        result = run(module.params, check_mode=module.check_mode)
    except PkiError as error:
        module.fail_json(msg=f"The certificate for users is refused, nothing changed: {error}")
    except OSError as error:
        module.fail_json(msg=f"tresor_user_certificate: {error.strerror}: {error.filename}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
