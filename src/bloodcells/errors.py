"""Errors that a reader can mend."""

import contextlib
import sys


class UserError(ValueError):
    """A mistake in the input: one line says what was expected, what came, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class DataUnavailableError(UserError):
    """A dataset can't be had here: not in the cache, no mirror, no network.

    Only this error lets ``dataset="auto"`` fall back to drawn smears. Damaged data raises a plain
    `UserError` instead, so that a fault is never papered over.
    """


@contextlib.contextmanager
def told_in_one_line():
    """End the process with the message of a `UserError` and status 1; for scripts, around all they do."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
