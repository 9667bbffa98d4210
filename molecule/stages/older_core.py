"""The older supported ansible-core: the same release converged with it, on the same bastion."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stages import operate
from stages.shell import REPOSITORY, on_host, output, put, python, run

_ENVIRONMENT = "/opt/tresor-older-core"
_PACKAGE = "ansible-core"

# The bastion's own environment with one package replaced; all else is what the bundle brought.
_INSTALL = """
rm -rf {env}
cp -aL /opt/tresor/ansible/current {env}
/run/uv --no-config pip install -q --offline --no-deps --reinstall --python {env}/bin/python {wheel}
"""


def install() -> str:
    """Give the bastion an environment with the older core; return its version line."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        remote = f"/run/{wheel.name}"
        put("bastion", remote, wheel.read_bytes())
    put("bastion", "/run/uv", Path(sys.executable).with_name("uv").read_bytes(), mode="0755")
    script = _INSTALL.format(env=_ENVIRONMENT, wheel=remote)
    run(on_host("bastion", "sh", "-euc", script), what="install the older ansible-core")
    ask = "from ansible.release import __version__; print('ansible-core', __version__)"
    return output(
        on_host("bastion", f"{_ENVIRONMENT}/bin/python", "-c", ask), what="ask for the version"
    ).strip()


def main() -> None:
    """Converge, converge again without a change, check mode, verify: all with the older core."""
    print(install(), flush=True)
    command = (f"{_ENVIRONMENT}/bin/python", "-m", "tresor_cli")
    operate.tresor("converge", what="converge", command=command)
    operate.trust_collector()
    operate.refuse_changes(
        operate.tresor("converge", what="second converge", command=command), "second converge"
    )
    operate.refuse_changes(
        operate.tresor("converge", what="converge --check", ansible=("--check",), command=command),
        "converge --check",
    )
    operate.tresor("verify", what="verify", command=command)


def _download(folder: Path) -> Path:
    """Fetch the locked wheel through pip, by version and digest."""
    lines = (REPOSITORY / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{_PACKAGE}=="))
    end = start + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    wanted = folder / "wanted.txt"
    wanted.write_text("\n".join(lines[start:end]) + "\n", encoding="utf-8")
    run(
        python(
            "-m", "pip", "download", "-q", "--no-deps", "--require-hashes",
            "-r", str(wanted), "-d", str(folder),
        ),
        what="fetch the older ansible-core",
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel
