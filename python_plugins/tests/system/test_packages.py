"""Packages at exact versions: simulated first, installed in one step, held, looked at again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from python_plugins.tests.module_call import call, load
from tresor.system.errors import SystemStateError
from tresor.system.packages import Apt, Dnf, State, decide

WANTED = {"driver": "580.95.05-1", "fabric": "580.95.05-1"}


class Tool:
    """A host's package tools: remembers what is installed and held, and what was run."""

    def __init__(self, installed: dict[str, str], held: set[str], offered: set[str]) -> None:
        self.installed, self.held, self.offered = dict(installed), set(held), offered
        self.ran: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        if command[0] == "dpkg-query":
            return "".join(
                f"{'h' if name in self.held else 'i'}i \t{name}\t{version}\n"
                for name, version in self.installed.items()
            )
        self.ran.append(command)
        if command[:2] == ("apt-mark", "hold"):
            self.held.update(command[2:])
            return ""
        pairs = command[command.index("install") + 1 :]
        for pair in pairs:
            if pair not in self.offered:
                # The module's own class: it is imported by another path than the tests'.
                raise load("tresor_packages").SystemStateError(f"Version of {pair} was not found")
        if "--simulate" not in command:
            self.installed.update(pair.split("=") for pair in pairs)
        return ""


def offered(version: str = "580.95.05-1") -> set[str]:
    return {f"{name}={version}" for name in WANTED}


def packages() -> list[dict[str, str]]:
    return [{"name": name, "version": version} for name, version in WANTED.items()]


def use(monkeypatch: pytest.MonkeyPatch, tool: Tool) -> None:
    monkeypatch.setattr(load("tresor_packages"), "manager_of", lambda _name: Apt(tool))


def test_check_do_check_do(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool({"driver": "580.82.07-1"}, set(), offered())
    use(monkeypatch, tool)

    checked = call("tresor_packages", check=True, packages=packages())
    assert tool.installed == {"driver": "580.82.07-1"}
    done = call("tresor_packages", packages=packages())

    assert checked["changes"] == done["changes"]
    assert done["changes"][0] == {
        "name": "driver",
        "before": "580.82.07-1",
        "after": "580.95.05-1",
    }
    assert (tool.installed, tool.held) == (WANTED, set(WANTED))
    assert not call("tresor_packages", check=True, packages=packages())["changed"]
    assert not call("tresor_packages", packages=packages())["changed"]


def test_version_that_no_source_has_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool({}, set(), {"driver=580.95.05-1"})
    use(monkeypatch, tool)

    done = call("tresor_packages", packages=packages())

    assert done["failed"]
    assert "fabric=580.95.05-1 was not found" in done["msg"]
    assert tool.installed == {}


def test_installed_but_not_held_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool(WANTED, {"driver"}, set())
    use(monkeypatch, tool)

    done = call("tresor_packages", packages=packages())

    assert (done["changed"], done["held"], done["changes"]) == (True, ["fabric"], [])


def test_installation_that_left_another_version_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(Tool):
        def __call__(self, command: Sequence[str]) -> str:
            before = dict(self.installed)
            said = super().__call__(command)
            self.installed = before
            return said

    use(monkeypatch, Stubborn({"driver": "1"}, set(), offered()))

    done = call("tresor_packages", packages=packages())

    assert "driver is 1, fabric is absent" in done["msg"]


def test_half_configured_package_is_absent() -> None:
    def run(_command: Sequence[str]) -> str:
        return "iF \tdriver\t580.95.05-1\nii \tfabric\t580.95.05-1\n"

    assert Apt(run).state(WANTED) == State({"fabric": "580.95.05-1"}, frozenset())


def test_name_twice_is_refused() -> None:
    assert "twice" in call("tresor_packages", packages=[*packages(), *packages()])["msg"]


def test_dnf_reads_versions_and_locks_and_installs_exact_ones() -> None:
    ran: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        ran.append(command)
        if command[0] == "rpm":
            return "driver\t3:580.82.07-1.el9\nfabric\t0:580.95.05-1\nbash\t0:5.1-1\n"
        return "fabric-0:580.95.05-1.*\n" if "list" in command else "found\n"

    manager = Dnf(run)
    state = manager.state(["driver", "fabric"])
    steps = decide({"driver": "3:580.95.05-1.el9", "fabric": "580.95.05-1"}, state, hold=True)
    manager.simulate(steps)
    manager.apply(steps)

    assert state.installed == {"driver": "3:580.82.07-1.el9", "fabric": "580.95.05-1"}
    assert steps.hold == ("driver",)
    assert ("dnf", "-y", "--allowerasing", "install", "driver-3:580.95.05-1.el9") in ran


def test_dnf_without_the_version_changes_nothing() -> None:
    steps = decide({"driver": "9"}, State({}, frozenset()), hold=True)

    with pytest.raises(SystemStateError, match="no source has driver 9"):
        Dnf(lambda _command: "").simulate(steps)
