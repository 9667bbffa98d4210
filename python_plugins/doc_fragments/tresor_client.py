"""Documentation fragment: the options of ``api_check.options.client_spec``."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that asks servers with the host's certificate and without one."""

    DOCUMENTATION = r"""
options:
  ca_file:
    description: The CA that the servers' certificates come from.
    type: path
    default: /etc/tresor/pki/ca.crt
  certificate_file:
    description: The client certificate.
    type: path
    default: /etc/tresor/pki/host.crt
  key_file:
    description: The key of I(certificate_file); read as root.
    type: path
    default: /etc/tresor/pki/host.key
"""
