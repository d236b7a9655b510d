"""The error tree. The command line turns each into one line and an exit code."""


class ReelmillError(Exception):
    """A job or a check failed; the message names the thing, what it must be and what came. Exit code 1."""


class UsageError(ReelmillError, ValueError):
    """The caller's mistake, found before any work was done. Exit code 2."""


class StorageError(ReelmillError):
    """A disk or mount refused: full, read-only, gone."""


class DamageError(ReelmillError):
    """Bytes on disk are not what the dataset says they are."""
