"""The command `boomerang` on a clock that can be moved: `python shifted_clock.py COMMAND ...`.

The file named by BOOMERANG_TEST_CLOCK holds the error of the clock in seconds. As after a step of the system clock,
`datetime.now` and `time.time` jump, and monotonic clocks do not. The script is run, not imported, so that it replaces
`datetime` before another module imports it.
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


def clock_error() -> float:
    """Return the current error of the clock in seconds."""
    return float(FILE.read_text() or 0)


class DatetimeType(type):
    """Makes every real datetime an instance of the shifted class, which itself has none."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Return whether `instance` is a datetime."""
        return isinstance(instance, true_datetime)


class ShiftedDatetime(true_datetime, metaclass=DatetimeType):
    """Creates real datetimes; its `now` returns the shifted time."""

    def __new__(cls, *arguments: Any, **more: Any) -> Any:
        """Return a real datetime."""
        return true_datetime(*arguments, **more)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Return the shifted time."""
        return true_datetime.now(tz) + timedelta(seconds=clock_error())

    @classmethod
    def utcnow(cls) -> Any:
        """Return the shifted time, without a zone."""
        return true_datetime.now(dt.UTC).replace(tzinfo=None) + timedelta(seconds=clock_error())


if __name__ == "__main__":
    dt.datetime = ShiftedDatetime  # type: ignore[misc] # every module must get the shifted class
    time.time = lambda: true_time() + clock_error()
    from service.cli import main

    sys.argv[0] = "boomerang"
    main()
