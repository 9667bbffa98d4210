"""Documentation fragment: the options of ``store_client.options.connection_spec``."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that pulls from the site's store."""

    DOCUMENTATION = r"""
options:
  store_url:
    description: Where the store is, for example V(https://bastion1.site.example:8443).
    type: str
  ca_cert:
    description: The site's CA, PEM; the only one trusted.
    type: path
    default: /etc/tresor/pki/ca.crt
  client_cert:
    description: The host's certificate, PEM.
    type: path
    default: /etc/tresor/pki/host.crt
  client_key:
    description: The host's private key, PEM.
    type: path
    default: /etc/tresor/pki/host.key
"""
