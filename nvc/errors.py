"""Errors whose message is the one line a user should read.

The command line prints ``nvc: error: MESSAGE`` for these and nothing else; every message says what
is wrong, in which file or option, and what is allowed.
"""


class NvcError(Exception):
    """Base of every error a user can cause or has to know about; the command line exits with 1."""

    exit_code = 1


class UsageError(NvcError):
    """An option or a combination of options that cannot be meant; the command line exits with 2."""

    exit_code = 2


class InputError(NvcError):
    """An input video or picture that cannot be read or has a property we do not support."""


class StreamError(NvcError):
    """An ``.nvc`` stream that is truncated, corrupt, foreign, newer, or needs other weights."""
