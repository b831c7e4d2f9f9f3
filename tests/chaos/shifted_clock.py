"""The command `boomerang` on a clock that can be put on and back: `python clocked.py COMMAND ...`.

The file that BOOMERANG_TEST_CLOCK names holds the seconds by which the clock is wrong. As after a step of the machine's
own clock, `datetime.now` and `time.time` jump, and what is monotonic does not. It is not imported but run, before
anything else has taken `datetime` from its module.
"""

import datetime as dt
import os
import sys
import time
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import Any

FILE = Path(os.environ.pop("BOOMERANG_TEST_CLOCK"))
true_datetime = dt.datetime
true_time = time.time


def wrong_by() -> float:
    """Return the seconds by which the clock is wrong now."""
    return float(FILE.read_text() or 0)


class Kind(type):
    """Makes every true datetime an instance of the wrong clock's class, which itself has none."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Say whether it is a datetime."""
        return isinstance(instance, true_datetime)


class WrongClock(true_datetime, metaclass=Kind):
    """Makes true datetimes, and tells a wrong time."""

    def __new__(cls, *arguments: Any, **more: Any) -> Any:
        """Return a true datetime."""
        return true_datetime(*arguments, **more)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Return the wrong time."""
        return true_datetime.now(tz) + timedelta(seconds=wrong_by())

    @classmethod
    def utcnow(cls) -> Any:
        """Return the wrong time, without a zone."""
        return true_datetime.now(dt.UTC).replace(tzinfo=None) + timedelta(seconds=wrong_by())


if __name__ == "__main__":
    dt.datetime = WrongClock  # type: ignore[misc] # the class that everybody asks is what is to be wrong
    time.time = lambda: true_time() + wrong_by()
    from service.cli import main

    sys.argv[0] = "boomerang"
    main()
