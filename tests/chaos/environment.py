"""What every fault plays on: a sandbox with faults of its own, a receiver, a gate, clients, and the processes."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import anyio
import httpx

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import RunRecords, read_records
from tests.acceptance.environment import SECRET, Service, Upstream, service, settings, upstream
from tests.acceptance.processes import Workspace, until
from tests.acceptance.receiver import Receiver, receiving
from tests.chaos.audit import Audit, read_inbox
from tests.chaos.fleet import BOOMERANG, CLOCKED, Fleet, Place
from tests.chaos.load import Load
from tests.chaos.recording_proxy import Gate, gate_before

HANDLERS: dict[str, frozenset[str] | None] = {"log": None, "webhook": None}
SWITCHES = {
    "lose-callbacks": "0.15",
    "double-callbacks": "0.2",
    "reorder-callbacks": "0.1",
    "late-callbacks": "0.2",
    "callback-lateness": "500ms..2s",
    "lose-create-reply": "0.03",
    "slow-create": "0.2",
    "create-delay": "300ms..1s",
    "run-time": "300ms..2500ms",
    "callback-retries": "6",
}
QUICK = {"LEASE": "2s", "IN_DOUBT_FOR": "9s", "LOG_LEVEL": "warning", "LOG_FORMAT": "json"}
FINAL = frozenset({"success", "failed", "canceled"})
CALM_WITHIN = 180.0
"""Seconds after the last fault within which everything must have come to its end."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much of a fault there is: kills in all, how often another fault strikes, and in how many runs."""

    kills: int
    strikes: int
    runs: int = 1
    seed: int = 1

    def dice(self) -> Random:
        """Return where what is by chance comes from."""
        return Random(self.seed)  # noqa: S311 - faults need a seed, not secrecy


@dataclass(kw_only=True)
class Stage:
    """A service under load, and what can be done to it."""

    fault: str
    database_url: str
    sandbox: Upstream
    receiver: Receiver
    gate: Gate
    load: Load
    fleet: Fleet
    started: float = field(default_factory=time.monotonic)
    odd: list[str] = field(default_factory=list)

    async def flowing(self, tasks: int = 4) -> None:
        """Wait until so many more tasks were confirmed, and some more callbacks acknowledged."""
        confirmed, acknowledged = len(self.load.tasks), len(self.gate.acknowledged)

        def flows() -> bool:
            self._none_fell()
            return len(self.load.tasks) >= confirmed + tasks and len(self.gate.acknowledged) > acknowledged

        await until(flows, what="the flow of tasks and callbacks")

    async def put_off(self, callbacks: int = 1, *, seconds: float = 30.0) -> None:
        """Wait until so many more callbacks were answered with 503."""
        before = self.refused

        def refused() -> bool:
            self._none_fell()
            return self.refused >= before + callbacks

        await until(refused, what="a callback that is put off", seconds=seconds)

    def _none_fell(self) -> None:
        if self.fleet.fallen:
            raise AssertionError("; ".join(self.fleet.fallen))

    @property
    def refused(self) -> int:
        """Count the callbacks that were answered with 503."""
        return self.gate.answers[httpx.codes.SERVICE_UNAVAILABLE]

    async def audit(self) -> Audit:
        """Let everything come to its end, without further faults, and put the books side by side."""
        await self.fleet.ready()
        await self.load.stop()
        place = self.fleet.places[0]
        async with service(self.fleet.child(place)) as at:
            await self._calm(at)
            acknowledged = frozenset(self.gate.acknowledged)
            await until(self._all_read, what="the end of what is unread in the inbox", pause=0.2)
            records = await self._books(at)
        self._none_fell()
        await self.fleet.stopped()
        return Audit(
            fault=self.fault,
            struck=self.fleet.struck,
            records=records,
            confirmed=dict(self.load.tasks),
            acknowledged=acknowledged,
            refused=self.refused,
            inbox=read_inbox(self.database_url),
            odd=[*self.odd, *self.gate.odd, *self.load.odd, *self.receiver.refused],
            seconds=time.monotonic() - self.started,
        )

    async def _calm(self, at: Service) -> None:
        async def ended() -> bool:
            return set((await self.sandbox.ledger())["tasks"]) <= FINAL

        with anyio.fail_after(CALM_WITHIN):
            await until(ended, what="the end of the upstream's tasks", pause=0.25)
            await at.wait_until_idle(seconds=CALM_WITHIN)

    def _all_read(self) -> bool:
        return "unread" not in read_inbox(self.database_url).values()

    async def _books(self, at: Service) -> RunRecords:
        """Read the books; again when a late callback wrote into them meanwhile."""
        while True:
            records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
            if await at.tasks() == records.tasks:
                return records
            await at.wait_until_idle(seconds=CALM_WITHIN)


@asynccontextmanager
async def stage(
    fault: str,
    workspace: Workspace,
    database_url: str,
    places: list[Place],
    *,
    doors: int = 1,
    command: Sequence[str] = BOOMERANG,
    load: int = 6,
    **more: str,
) -> AsyncIterator[Stage]:
    """Set the stage and begin to load it: the first `doors` places take requests, `more` are settings.

    No process of the service is started yet. Leaving ends the load.
    """
    switches = [word for name, value in SWITCHES.items() for word in (f"--{name}", value)]
    async with (
        upstream(workspace, "--tiny-videos", *switches) as sandbox,
        receiving(derive_webhook_secret(SECRET), ignore_time=command is CLOCKED) as receiver,
        gate_before([place.url for place in places[:doors]]) as gate,
        anyio.create_task_group() as group,
    ):
        given = {**QUICK, "WEBHOOK_URL": receiver.url, **more}
        env = settings(sandbox.url, gate.url, database_url, **given)
        clients = Load(gate=gate, clients=load)
        group.start_soon(clients.run)
        fleet = Fleet(workspace=workspace, env=env, places=places, command=command)
        yield Stage(
            fault=fault,
            database_url=database_url,
            sandbox=sandbox,
            receiver=receiver,
            gate=gate,
            load=clients,
            fleet=fleet,
        )
        group.cancel_scope.cancel()
