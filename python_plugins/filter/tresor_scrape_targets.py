#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: what Prometheus scrapes, from the hosts of the plan."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_scrape_targets
short_description: Scrape targets of a site
description:
  - Returns one target for each job on each of its hosts, sorted by job, host and instance.
  - A job with C(path) is one target a host. A job with C(instance_path) is one target for each
    model instance of the host; C({id}) stands for the instance's id.
positional: _input, jobs
options:
  _input:
    description: Hosts of the plan, each with C(fqdn), C(groups) and C(instances).
    type: dict
    required: true
  jobs:
    description:
      - Jobs, each with C(job), C(port), C(path) or C(instance_path), and C(hosts), the names of
        the hosts that have it. A host that the plan lacks is an error.
    type: list
    elements: dict
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Show what would be scraped
  ansible.builtin.debug:
    msg: "{{ tresor_plan.hosts | tresor_scrape_targets(jobs) }}"
  vars:
    jobs: [{job: node, port: 9100, path: /node, hosts: [gpu1]}]
"""

RETURN = r"""
_value:
  description:
    - Targets, each with C(job), C(host), C(group), C(instance), C(name), C(port) and C(path).
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def tresor_scrape_targets(
    hosts: Mapping[str, Mapping[str, Any]], jobs: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the targets of all jobs."""
    found = [target for job in jobs for target in _of(job, hosts)]
    return sorted(found, key=lambda t: (t["job"], t["host"], t["instance"]))


def _of(job: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name in job["hosts"]:
        if name not in hosts:
            raise AnsibleFilterError(
                f"tresor_scrape_targets: the job {job['job']} names the host {name!r}, which the "
                "plan does not have; correct the name or resolve the plan again"
            )
        host = hosts[name]
        common = {
            "job": str(job["job"]),
            "host": str(name),
            "group": ",".join(sorted(host["groups"])),
            "name": str(host["fqdn"]),
            "port": int(job["port"]),
        }
        if "instance_path" in job:
            for instance in host["instances"]:
                path = str(job["instance_path"]).replace("{id}", str(instance))
                yield {**common, "instance": str(instance), "path": path}
        else:
            yield {**common, "instance": str(name), "path": str(job["path"])}


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_scrape_targets": tresor_scrape_targets}
