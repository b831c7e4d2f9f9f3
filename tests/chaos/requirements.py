"""What a machine must have for some of the faults."""

import shutil


class Impossible(Exception):
    """This machine has no means to make the fault; says which is missing."""


def command_or_none(name: str) -> str | None:
    """Return where a system command is."""
    return shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
