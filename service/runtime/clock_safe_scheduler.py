"""APScheduler, made safe against jumps of the system clock."""

from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

CLOCK_CHECK_INTERVAL = timedelta(seconds=2)
"""Maximum time between two checks of the system clock: a clock that moved back delays every job until the next one."""


class ClockSafeScheduler(AsyncIOScheduler):  # type: ignore[misc] # APScheduler ships no types
    """Keeps triggering jobs when the system clock jumps.

    APScheduler alone triggers nothing for as long as the clock was moved back, and runs through every skipped interval
    when the clock was moved forward.
    """

    def _process_jobs(self) -> float:
        now = datetime.now(UTC)
        for job in self.get_jobs():
            if abs(job.next_run_time - now) > job.trigger.interval + CLOCK_CHECK_INTERVAL:
                job.modify(next_run_time=now)
        wait: float | None = super()._process_jobs()  # None without a job to wait for, for example during shutdown
        maximum = CLOCK_CHECK_INTERVAL.total_seconds()
        return maximum if wait is None else min(wait, maximum)

    def _start_timer(self, wait_seconds: float | None) -> None:
        if self._eventloop is not None:  # a wake-up that was scheduled before the shutdown runs after it
            super()._start_timer(wait_seconds)
