"""Everything on one server beside the bastion: converged, converged again, verified, asked."""

from __future__ import annotations

from stages import ask, boot, operate, site_import
from stages.shell import REPOSITORY, StageError

# Where the API's name leads, so the server has this name and address.
_HOSTS = ("router1", "internet1", "company1", "gateway1", "bastion")
_OVERLAY = REPOSITORY / "molecule" / "single_node" / "inventory"


def main() -> None:
    """Run the whole site on two hosts.

    Raises:
        StageError: a stage failed, a second converge changed something, or the model said nothing.
    """
    boot.preflight()
    built = boot.trees_and_bundle()
    boot.hosts(*_HOSTS)
    boot.company(built)
    boot.inventory(_OVERLAY)
    site_import.import_bundle(site_import.supersede(built))
    operate.converge()
    operate.trust_collector()
    operate.refuse_changes(operate.converge(), "second converge")
    operate.check_mode()
    evidence = operate.verify()
    print(f"verify: {evidence['totals']}", flush=True)
    ask.install_client()
    answer = ask.ask()
    if not answer.text.strip():
        raise StageError("the model's answer is empty")
    print(f"the model says: {answer.text}", flush=True)
