"""Documentation fragment: the options of ``store_importer.command.importer_spec``."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that runs the importer on the bastion."""

    DOCUMENTATION = r"""
options:
  program:
    description: The importer that the first import left on the bastion.
    type: path
    default: /usr/local/sbin/tresor-importer
  store:
    description: Root of the store.
    type: path
    default: /srv/tresor/store
"""
