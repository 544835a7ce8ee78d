"""Errors that a user can act on, each with the exit code of its kind.

`str(error)` is what the user reads, one line per problem: what (`name=value`), where, what was
expected, what to do. Only align/runs/command.py turns an error into an exit code; all else
lets it propagate. Anything that is not a `UserError` is a bug of ours and keeps its traceback.

To add a kind: subclass `UserError`, give it an exit code that make can stop on, list it in
docs/troubleshooting.md.
"""

from __future__ import annotations

import errno

from align.messages import Sentence, filled, say

FAULTS = {
    errno.EACCES: Sentence("Permission denied"),
    errno.EROFS: Sentence("Read-only file system"),
    errno.ENOSPC: Sentence("No space left on device"),
    errno.EDQUOT: Sentence("Disk quota exceeded"),
    errno.EIO: Sentence("Input/output error"),
}
"""What the operating system says of the commonest faults, for its Korean."""


def fault(error: OSError) -> str:
    known = FAULTS.get(error.errno or 0)
    return known.said() if known else str(error.strerror)


class UserError(Exception):
    """Something the user can put right; the base of all errors shown without a traceback.

    `ConfigError("{path}: no such recipe", path=path)`: the sentence is the key of its Korean in
    align/messages/ko/. `str(error)` is English; the command line says it in the language of the
    reader, and so it does with an error that is a value of another one.
    """

    exit_code = 2

    def __init__(self, sentence: str, /, **values: object) -> None:
        super().__init__(filled(sentence, values))
        self.sentence, self.values = sentence, values

    def told(self) -> str:
        """What the reader is told, in their language."""
        return say(self.sentence, **self.values)


class ConfigError(UserError):
    """A recipe, a `key=value` or a hand-off between stages that cannot be used (exit 2)."""


class DataError(UserError):
    """A data file that is missing, empty or holds rows that cannot be used (exit 3)."""

    exit_code = 3


class DivergedError(UserError):
    """A loss, gradient, reward or weight became NaN or infinite (exit 4)."""

    exit_code = 4


class CorruptArtifactError(UserError):
    """A published file is missing, truncated or altered (exit 5)."""

    exit_code = 5


class UnlistedFileError(UserError):
    """A file lies in a published folder that was not published there (exit 5).

    The artifact is whole, and is not thrown away for what lies beside it.
    """

    exit_code = 5


class RetryableError(UserError):
    """The disk is full or another fault that the same command may survive later (exit 75)."""

    exit_code = 75
