"""Agreement between the processes of a service about the key that signs.

Each process registers the fingerprints of its keys in the database and renews the registration. The newest key that all
live processes know signs, so that no process gets a callback with a token that it cannot verify, in whichever order
processes get new keys. Processes of releases before this one register nothing: their keys are not considered.
"""

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from service.domain.errors import StoreUnavailable
from service.domain.key_ring import KeyRing
from service.domain.ports.process_registry import KeyDecision, ProcessKeys, ProcessRegistry, RegisteredKeys
from service.domain.ports.signals import Clock
from service.runtime.scheduler import PeriodicJob

log = structlog.get_logger("boomerang.runtime")

RENEWAL_INTERVAL = timedelta(seconds=10)

ENDED_AFTER = 6
"""Own renewals without one of another process, after which that process counts as ended.

Renewals are counted, not seconds: clocks differ, and a suspended process must not conclude that the others ended.
"""

STALE_AFTER = 30.0
"""Seconds without an own renewal after which other processes may soon count this one as ended: fewer than ENDED_AFTER
renewals take."""

RETENTION = timedelta(days=1)
"""Age of a registration that nobody counts as ended, because each process is gone before ENDED_AFTER renewals.

It ends one that this process has not seen before: a jump of the clock makes all the others look as old.
"""

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How much later than the last recorded use of a key a task may have been submitted with it."""


@dataclass(kw_only=True, slots=True, eq=False)
class KeyAgreement:
    """Registers this process and selects the key that its key ring signs with; `role` is registered too."""

    key_ring: KeyRing
    registry: ProcessRegistry
    clock: Clock
    process_id: str
    role: str | None = None
    host: str = field(default_factory=socket.gethostname)
    warnings: tuple[str, ...] = field(init=False, default=())
    _started_at: datetime = field(init=False)
    _renewed_at: tuple[float, datetime] | None = field(init=False, default=None)
    _observed: dict[str, tuple[datetime, int]] = field(init=False, default_factory=dict)
    _missing: frozenset[str] = field(init=False, default=frozenset())
    _lost: dict[str, datetime] = field(init=False, default_factory=dict)
    _finished: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        self._started_at = self.clock.now()

    def job(self) -> PeriodicJob:
        """Return the job that renews the registration."""
        return PeriodicJob(name="keys", run=self.renew, every=RENEWAL_INTERVAL, repeat=False)

    def may_lack_keys(self) -> bool:
        """Return whether a token that no own key verifies may be genuine: another live process may know its key.

        True before the first renewal, too, and when the last one is long ago. The loop's time does not pass while the
        machine is suspended, so the clock counts as well: the other processes may have replaced keys meanwhile.
        """
        if self._renewed_at is None or self._missing:
            return True
        time, at = self._renewed_at
        return max(asyncio.get_running_loop().time() - time, abs((self.clock.now() - at).total_seconds())) > STALE_AFTER

    def registered(self) -> bool:
        """Return whether this process has registered its keys, so that it signs with one that all processes know."""
        return self._renewed_at is not None

    async def renew(self) -> None:
        """Register the own keys again, and sign with the newest one that all live processes know.

        Raises StoreUnavailable.
        """
        began = asyncio.get_running_loop().time()
        now = self.clock.now()
        own = ProcessKeys(
            id=self.process_id,
            fingerprints=self.key_ring.fingerprints,
            started_at=self._started_at,
            seen_at=now,
            role=self.role,
            host=self.host,
        )
        renewal = _Renewal(self.key_ring, now, self._observed, self._finished)
        await self.registry.renew(own, renewal.decide)
        self._renewed_at = began, now
        self._observed = renewal.observed
        self._sign_with(renewal.signing, renewal.live)
        await self._note_unknown_keys(renewal)

    async def remove(self) -> None:
        """End the registration, if there is one; it ends by itself if the database is unavailable."""
        if not self.registered():
            return
        try:
            await self.registry.remove(self.process_id)
        except StoreUnavailable as error:
            log.warning("failed to end the registration, it will be ignored later", error=str(error))

    def _sign_with(self, signing: str | None, live: Collection[ProcessKeys]) -> None:
        if signing is None:
            log.warning("no signing key is known to all processes, the newest signs", processes=len(live) + 1)
        chosen = signing or self.key_ring.fingerprints[0]
        if chosen != self.key_ring.signing_fingerprint:
            newest = chosen == self.key_ring.fingerprints[0]
            log.info("signing key selected", key=chosen, newest=newest, processes=len(live) + 1)
        self.key_ring.sign_with(chosen)

    async def _note_unknown_keys(self, renewal: "_Renewal") -> None:
        """Log which keys this process lacks, once, and what is lost with those that no process knows any more."""
        if renewal.missing - self._missing:
            log.warning("other processes sign with keys that this one lacks", keys=sorted(renewal.missing))
        self._missing = renewal.missing
        if renewal.lost == self._lost and not self.warnings:
            return
        tasks = 0
        if renewal.lost:
            until = max(renewal.lost.values()) + CLOCK_TOLERANCE
            tasks = await self.registry.count_unfinished(submitted_until=until)
        self._finished = frozenset() if tasks else frozenset(renewal.lost)
        if tasks and renewal.lost != self._lost:
            log.warning("callbacks of unfinished tasks are refused, polls settle the tasks", tasks=tasks)
        self._lost = renewal.lost
        self.warnings = (LOST_TEXT,) if tasks else ()


@dataclass(slots=True)
class _Renewal:
    """One decision about the signing key. `observed` maps processes to their last renewal and the own ones since."""

    key_ring: KeyRing
    now: datetime
    before: dict[str, tuple[datetime, int]]
    finished: Collection[str]
    observed: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    live: list[ProcessKeys] = field(default_factory=list)
    signing: str | None = None
    missing: frozenset[str] = frozenset()
    lost: dict[str, datetime] = field(default_factory=dict)

    def decide(self, registered: RegisteredKeys) -> KeyDecision:
        """Return the newest key that all live processes know, else the newest own one, and what to delete."""
        ended = []
        for process in registered.others:
            seen_at, without = self.before.get(process.id, (None, 0))
            without = without + 1 if seen_at == process.seen_at else 0
            old = seen_at is None and self.now - process.seen_at > RETENTION
            if old or without >= ENDED_AFTER:
                ended.append(process.id)
                continue
            self.observed[process.id] = (process.seen_at, without)
            self.live.append(process)
        known = {each for process in self.live for each in process.fingerprints}
        unknown = registered.used_at.keys() - set(self.key_ring.fingerprints)
        self.missing = frozenset(unknown & known)
        unused = [each for each in unknown - known if each in self.finished]
        self.lost = {each: registered.used_at[each] for each in unknown - known if each not in self.finished}
        self.signing = self.key_ring.newest_common(process.fingerprints for process in self.live)
        return KeyDecision(signing=self.signing or self.key_ring.fingerprints[0], ended=ended, unused=unused)


LOST_TEXT = (
    "unfinished tasks may have been submitted with a signing key that no process has any more: their callbacks are "
    "refused and polls settle them; add the key to BOOMERANG_SECRET_KEYS again until they have ended"
)
"""Anybody may read `/readyz`: only the log says how many tasks."""
