"""What a process imports for chats before the first command: a platform waits three seconds for its answer."""

import subprocess
import sys


def test_handlers_of_chats_import_their_libraries_late() -> None:
    """No process pays for the library of a platform that it does not use."""
    code = (
        "import sys, handlers.discord, handlers.slack, handlers.telegram;"
        "print({'slack_sdk', 'aiohttp', 'telegram', 'av'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own code
    assert found.stdout.strip() == "set()"
