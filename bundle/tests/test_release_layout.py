"""What the distribution part carries, and that it works where a release puts it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible.config.manager import ConfigManager

from bundle.builder.blobs import BlobStore
from bundle.builder.context import default_context
from bundle.builder.distribution import files
from bundle.builder.spec import load_spec

ROOT = Path(__file__).parents[2]
SPEC = load_spec(ROOT / "bundle/spec", default_context().schema_dir / "spec.schema.json")


def test_lab_inventory_stays_behind(tmp_path: Path) -> None:
    (part,) = [part for part in SPEC.parts if part.name == "distribution"]
    paths = {entry.file for entry in files(ROOT, part.want["include"], BlobStore(tmp_path))}
    assert [path for path in paths if path.startswith("inventories/lab/")] == []
    for wanted in (
        "ansible.cfg",
        "bundle/lock/wheels-ansible.json",
        "bundle/spec/environments.yml",
        "inventories/no_site.yml",
        "inventories/production/hosts.yml",
        "inventories/single_node/hosts.yml",
        "playbooks/site.yml",
        "python_plugins/doc_fragments/tresor_store.py",
        "services/siem_reader/src/__main__.py",
        "services/siem_reader/src/tresor_siem/program.py",
    ):
        assert wanted in paths


def test_release_finds_its_collections_and_the_site_inventory(tmp_path: Path) -> None:
    distribution = tmp_path / "tree" / "distribution"
    distribution.mkdir(parents=True)
    config = ConfigManager(str(shutil.copy(ROOT / "ansible.cfg", distribution)))
    collections = config.get_config_value("COLLECTIONS_PATHS")
    assert str(tmp_path / "tree" / "collections") in collections
    assert config.get_config_value("DEFAULT_HOST_LIST") == [
        "/etc/tresor/inventory/hosts.yml",
        str(distribution / "inventories" / "no_site.yml"),
    ]
    assert config.get_config_value("DOC_FRAGMENT_PLUGIN_PATH") == [
        str(distribution / "python_plugins" / "doc_fragments")
    ]
