"""The error family of the bundle package: every refusal has a class, a rule and a path."""

from __future__ import annotations

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_REJECTED = 3
EXIT_ENVIRONMENT = 4
_MAX_TEXT = 2000


def printable(text: str) -> str:
    """Return ``text`` as one line that cannot forge a log line or command a terminal.

    Names come from a hostile medium: line breaks, escape sequences, direction marks and bytes that
    are no UTF-8 are written as escapes. At most 2,000 characters.
    """
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_MAX_TEXT])
    return shown + ("…" if len(text) > _MAX_TEXT else "")


class BundleError(Exception):
    """A named refusal.

    Attributes:
        error_class: family of the rule: ``manifest``, ``signature``, ``medium``, ``fit``,
            ``content``, ``policy``, ``approval``, ``state``, ``space``, ``environment``, or the
            name of the gate that refused.
        rule: the rule that was broken, stable for machines (``content.digest``).
        path: the file or field it was broken by, empty when there is none.
        exit_code: what the shell gets.
    """

    exit_code = EXIT_REJECTED

    def __init__(self, rule: str, message: str, path: str = "") -> None:
        super().__init__(printable(message))
        self.error_class = rule.partition(".")[0]
        self.rule = rule
        self.path = printable(path)

    def __str__(self) -> str:
        where = f" [{self.path}]" if self.path else ""
        return f"{self.rule}: {super().__str__()}{where}"

    def as_json(self) -> dict[str, str]:
        """Return the error as it stands in events and in the quarantine."""
        return {
            "class": self.error_class,
            "rule": self.rule,
            "path": self.path,
            "message": super().__str__(),
        }


class RejectedError(BundleError):
    """The bundle is wrong: it is refused and its staging removed."""


class EnvironmentNotReadyError(BundleError):
    """This machine is not ready (space, lock, clock, medium gone); the same command may be run
    again after the cause is gone, and continues where it stopped."""

    exit_code = EXIT_ENVIRONMENT


class UsageError(BundleError):
    """The command cannot be meant like this."""

    exit_code = EXIT_USAGE
