"""Errors the operator sees, each with the thing, the value seen and the next step."""

from __future__ import annotations


class CliError(Exception):
    """A refused command; ``exit_code`` is what the shell gets."""

    exit_code = 2


class EnvironmentNotReadyError(CliError):
    """Something this command needs is missing on the bastion."""

    exit_code = 4


class BusyError(CliError):
    """Another run holds the lock."""

    exit_code = 5
