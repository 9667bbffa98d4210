"""Carry out a decision: drain, reset, restart the Fabric Manager, reboot; and prove the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tresor.gpu.commands import Runner
from tresor.gpu.fabric_manager import UNIT as FABRIC
from tresor.gpu.xid import Action
from tresor_gpu_watcher.config import Config

Audit = Callable[..., None]
Prove = Callable[[], list[str]]
RESET: Final = ("nvidia-smi", "--gpu-reset")


class Actor:
    """Runs commands on this host; what it does is audited before and after."""

    def __init__(self, config: Config, run: Runner, prove: Prove, audit: Audit) -> None:
        """Take the function that runs commands, and the one that returns what is not healthy."""
        self._config = config
        self._run = run
        self._prove = prove
        self._audit = audit

    def drain(self) -> list[str]:
        """Stop the engines, each as its unit says; return those that ran."""
        listed = self._run(
            (
                "systemctl",
                "list-units",
                "--all",
                "--plain",
                "--no-legend",
                "--state=active,activating,reloading",
                self._config.engine_units,
            )
        )
        engines = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
        if engines:
            self._systemctl("stop", *engines)
        self._audit("drained", engines=engines)
        return engines

    def resume(self, engines: list[str]) -> None:
        """Start engines that were stopped."""
        if engines:
            self._systemctl("start", *engines)
        self._audit("resumed", engines=engines)

    def repair(self, action: Action, gpus: tuple[str, ...]) -> list[str]:
        """Reset or restart, and return what is not healthy afterwards; not for reboots."""
        if action == Action.RESET_GPU:
            self._reset(gpus)
        if self._config.fabric:
            self._systemctl("restart", FABRIC)
        return self._prove()

    def prove(self) -> list[str]:
        """Return what is not healthy."""
        return self._prove()

    def reboot(self) -> None:
        """Reboot the host; returns at once."""
        self._systemctl("reboot")

    def _reset(self, gpus: tuple[str, ...]) -> None:
        """Reset the GPUs; on NVSwitch all of them, for a fabric takes no single one.

        What holds the devices stops for it and starts again whatever happened.
        """
        units = self._config.gpu_units
        if units:
            self._systemctl("stop", *units)
        try:
            targets = [()] if self._config.fabric else [("-i", f"{pci}.0") for pci in gpus]
            for target in targets:
                done = self._run((*RESET, *target))
                self._audit("reset", target=" ".join(target) or "all", problem=done.problem)
        finally:
            if units:
                self._systemctl("start", *reversed(units))

    def _systemctl(self, *arguments: str) -> None:
        done = self._run(("systemctl", *arguments))
        if not done.ok:
            self._audit("command_failed", command=" ".join(arguments), problem=done.problem)
