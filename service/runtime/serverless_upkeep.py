"""Jobs beside the work itself that run during requests only: at most on their interval, and never in the background."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import structlog

from service.domain.errors import StoreUnavailable
from service.domain.ports.signals import Clock
from service.runtime.scheduler import PeriodicJob

log = structlog.get_logger("boomerang.runtime")


class Upkeep:
    """Runs `jobs` whose last run is long ago. `keys` is the job that registers the keys; it comes before all else.

    `swept` is called with the number of submissions that the job `sweep` found.
    """

    def __init__(
        self, keys: PeriodicJob, jobs: Sequence[PeriodicJob], *, clock: Clock, swept: Callable[[int], object]
    ) -> None:
        self._keys = keys
        self._jobs = jobs
        self._clock = clock
        self._swept = swept
        self._ran_at: dict[str, tuple[float, datetime]] = {}
        self._renewing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def note_keys_renewed(self) -> None:
        """Note that the keys were registered just now."""
        self._note_run(self._keys)

    async def renew_keys(self) -> None:
        """Register the keys again if that is long ago; raises StoreUnavailable."""
        async with self._renewing:
            if self._is_due(self._keys):
                await self._keys.run()
                self._note_run(self._keys)

    def start_due(self) -> None:
        """Start the due jobs, unless some are running."""
        due = [job for job in self._jobs if self._is_due(job)]
        if due and self._task is None:
            self._task = asyncio.create_task(self._run(due), name="upkeep")

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio task of the running jobs, if there are any."""
        return {self._task} if self._task else set()

    async def _run(self, jobs: Collection[PeriodicJob]) -> None:
        try:
            for job in jobs:
                self._note_run(job)
                count = await job.run()
                if job.name == "sweep" and isinstance(count, int):
                    self._swept(count)
        except StoreUnavailable as error:
            log.warning("upkeep skipped, database unavailable", error=str(error))
        except Exception as error:
            log.exception("upkeep failed", error=type(error).__name__)
        finally:
            self._task = None

    def _is_due(self, job: PeriodicJob) -> bool:
        """Return whether the last run is long ago by either clock: a suspended machine stops the loop's."""
        if job.name not in self._ran_at:
            return True
        time, at = self._ran_at[job.name]
        passed = max(asyncio.get_running_loop().time() - time, abs((self._clock.now() - at).total_seconds()))
        return passed >= job.every.total_seconds()

    def _note_run(self, job: PeriodicJob) -> None:
        self._ran_at[job.name] = asyncio.get_running_loop().time(), self._clock.now()
