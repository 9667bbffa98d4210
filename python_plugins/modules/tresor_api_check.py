#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: check the request path with real requests."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_api_check
short_description: Prove that the API serves whom it should and refuses everything else
description:
  - Runs on the bastion. Gets tokens of the verify clients from the company's identity provider
    and sends real requests through NGINX and the policy gateway.
  - Served must be lists of exactly the allowed models, chat, streaming, text completion and
    embeddings where allowed. Refused must be no token, forged, expired and foreign tokens, models
    and endpoints of other groups, every path that is not on the list, and TLS below 1.2.
  - A check that could not be carried out is a failed check, not an error of the module.
requirements:
  - cryptography
options:
  plan_file:
    description:
      - The resolved plan. It names the secret file of each verify client.
    type: path
    default: /var/lib/tresor/plan/plan.json
  ca_file:
    description: The CA of the certificate that users see.
    type: path
    default: /etc/tresor/pki/ca.crt
  identity_ca_file:
    description: The CA of the identity provider. Empty means C(tresor_site.identity.ca_file).
    type: str
    default: ""
  routes:
    description: Names that stand for a model chosen by rules, each with name, default and rules.
    type: list
    elements: dict
    default: []
  source:
    description: The name of this host, for the report.
    type: str
    required: true
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 20.0
  max_wait:
    description: Seconds to wait at most for the short-lived token to expire.
    type: float
    default: 90.0
attributes:
  check_mode:
    support: full
    description: The module changes nothing on any host; it sends its requests in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Check the request path
  tresor_api_check:
    source: bastion1
"""

RETURN = r"""
checks:
  description: One entry per check, as the evidence report holds them.
  type: list
  elements: dict
  returned: success
requests:
  description: Every answered request with its request id, for the audit check.
  type: list
  elements: dict
  returned: success
replicas:
  description: Models whose instances must all have taken a request.
  type: list
  elements: dict
  returned: success
"""

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ansible.module_utils.tresor.api_check.suite import Settings, Suite

    CRYPTOGRAPHY_ERROR = None
except ImportError:
    CRYPTOGRAPHY_ERROR = traceback.format_exc()
from ansible.module_utils.tresor.api_check.client import RequestFailed, client_context
from ansible.module_utils.tresor.api_check.expectations import PlanError, locate
from ansible.module_utils.tresor.api_check.identity import IdentityError, Provider, public_key
from ansible.module_utils.tresor.api_check.recorder import Recorder


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "plan_file": {"type": "path", "default": "/var/lib/tresor/plan/plan.json"},
        "ca_file": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "identity_ca_file": {"type": "str", "default": ""},
        "routes": {"type": "list", "elements": "dict", "default": []},
        "source": {"type": "str", "required": True},
        "timeout": {"type": "float", "default": 20.0},
        "max_wait": {"type": "float", "default": 90.0},
    }


def main() -> None:
    """Run the suite and return its checks."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if CRYPTOGRAPHY_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=CRYPTOGRAPHY_ERROR)
    options = module.params
    try:
        plan = json.loads(Path(options["plan_file"]).read_bytes())["tresor_plan"]
        suite, recorder = _prepare(plan, options)
    except (OSError, ValueError, KeyError, TypeError, RequestFailed) as error:
        module.fail_json(
            msg=f"the request path cannot be checked with {options['plan_file']}: "
            f"{type(error).__name__}: {error}"
        )
    try:
        suite.run()
    except Exception as error:  # what was seen so far must still reach the report
        recorder.missing("api.run", "the checks of the request path run to the end", repr(error))
    module.exit_json(
        changed=False,
        checks=[check.as_dict() for check in recorder.checks],
        requests=[item.as_dict() for item in recorder.sent],
        replicas=[
            {"model": item.model, "instances": list(item.instances)} for item in suite.replicas
        ],
    )


def _prepare(plan: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Suite, Recorder]:
    """Return the suite, wired to the identity provider and the API of the plan."""
    site = plan["site"]
    identity_ca = client_context(options["identity_ca_file"] or site["identity"]["ca_file"])
    endpoint, path = locate(plan, site["verify"]["token_uri"])
    provider = Provider(endpoint, path, identity_ca, options["timeout"])

    def fetch(client: str, extra: Mapping[str, str]) -> str:
        client_id = site["verify"]["clients"][client]["id"]
        secret_file = Path(site["verify"]["clients"][client]["secret_file"])
        try:
            secret = secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"the secret {secret_file} cannot be read: {error}") from None
        return provider.token(client_id, secret, extra)

    def fetch_public_key() -> Mapping[str, Any]:
        try:
            keys, keys_path = locate(plan, site["identity"]["jwks_uri"])
        except PlanError as error:
            raise IdentityError(str(error)) from None
        return public_key(keys, keys_path, identity_ca, options["timeout"])

    recorder = Recorder(options["source"], client_context(options["ca_file"]), options["timeout"])
    settings = Settings(options["ca_file"], options["max_wait"], routes=options["routes"])
    return Suite(plan, settings, recorder, fetch, fetch_public_key), recorder


if __name__ == "__main__":
    main()
