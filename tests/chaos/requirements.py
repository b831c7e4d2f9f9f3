"""Requirements of some faults on the machine."""

import shutil


class Unavailable(Exception):
    """The fault cannot be injected on this machine; the message names what is missing."""


def command_or_none(name: str) -> str | None:
    """Return the path of a system command, or None."""
    return shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
