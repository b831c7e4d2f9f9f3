"""Import libraries without the parts that a service process never uses."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

TERMINAL_LIBRARIES = ("rich", "pygments")
"""What formats text for terminals; the log of a service does without it."""

WITHOUT_TERMINAL = ("httpx", "structlog")
"""Libraries that import those if they are installed: httpx for its own command line, structlog for tracebacks."""


def import_without_terminal_libraries() -> None:
    """Import httpx and structlog as if Rich and Pygments were not installed: these take a tenth of the time of a start.

    They can be imported afterwards. Without effect on a library that is imported already.
    """
    with _not_installed(TERMINAL_LIBRARIES):
        for name in WITHOUT_TERMINAL:
            import_module(name)


@contextmanager
def _not_installed(names: Sequence[str]) -> Iterator[None]:
    """Let imports of the packages fail inside the block, as None in `sys.modules` does; imported ones stay."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None is documented: the import system
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
