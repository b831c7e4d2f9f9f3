"""The limit of open files: raised at the start, and divided between connections and everything else."""

import sys

from service.api.connections import MAX_CONNECTIONS

MAX_FILES = 65_536
"""The limit that is asked for; a higher one would not be used."""

MAX_RESERVE = 1024
"""Descriptors for outgoing requests, the database, handlers and files."""

UNKNOWN_LIMIT = 1024
"""The limit that is assumed where the platform has none to ask for."""


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard limit, at most MAX_FILES; return the soft limit then in force."""
    if sys.platform == "win32":
        return UNKNOWN_LIMIT
    import resource  # noqa: PLC0415 - does not exist on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_FILES if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems refuse the hard limit that they give
        return soft
    return wanted


def max_connections(open_files: int) -> int:
    """Return how many connections a server may have of `open_files`: what a reserve leaves, at most MAX_CONNECTIONS.

    The reserve is MAX_RESERVE, or half of a low limit. At least one connection is allowed.
    """
    return max(1, min(MAX_CONNECTIONS, open_files - min(MAX_RESERVE, open_files // 2)))


def max_waits(connections: int) -> int:
    """Return how many requests may wait for tasks at once on a server with at most `connections`."""
    return max(1, connections // 2)


def max_streams(connections: int) -> int:
    """Return how many event streams a server with at most `connections` may have open at once."""
    return max(1, connections // 4)
