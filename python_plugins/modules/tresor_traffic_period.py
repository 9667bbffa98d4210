#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the period of a report of the traffic."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_traffic_period
short_description: Check the period of a report of the traffic, and that there is a plan
description:
  - Runs on the bastion, before a gateway is asked. Returns the period in whole seconds, so that all
    gateways are asked about the same one.
options:
  days:
    description: How many days the period has.
    type: float
    default: 7.0
  until:
    description: When it ends, a time with its zone (RFC 3339). Empty means now.
    type: str
    default: ""
  plan_file:
    description: The resolved plan.
    type: path
    default: /var/lib/tresor/plan/plan.json
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: The last thirty days
  tresor_traffic_period:
    days: 30
"""

RETURN = r"""
since:
  description: Begin of the period, in seconds since 1970.
  type: int
  returned: success
until:
  description: End of the period, in seconds since 1970.
  type: int
  returned: success
"""

import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.traffic.engines import site_of
from ansible.module_utils.tresor.traffic.errors import TrafficError
from ansible.module_utils.tresor.traffic.period import period


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "days": {"type": "float", "default": 7.0},
        "until": {"type": "str", "default": ""},
        "plan_file": {"type": "path", "default": "/var/lib/tresor/plan/plan.json"},
    }


def main() -> None:
    """Check and return."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        found = period(options["days"], options["until"], time.time())
        site_of(json.loads(Path(options["plan_file"]).read_bytes())["tresor_plan"])
    except OSError as error:
        module.fail_json(
            msg=f"{options['plan_file']}: {error.strerror}: converge the site first. "
            "No gateway was asked."
        )
    except TrafficError as error:
        module.fail_json(msg=f"{error}. No gateway was asked.")
    except (ValueError, KeyError, TypeError):
        module.fail_json(
            msg=f"{options['plan_file']} is not a resolved plan: run tresor plan. "
            "No gateway was asked."
        )
    module.exit_json(changed=False, since=found.since, until=found.until)


if __name__ == "__main__":
    main()
