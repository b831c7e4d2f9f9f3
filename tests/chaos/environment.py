"""The environment of every fault: a sandbox with faults, a webhook receiver, a proxy, clients and the processes."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
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
from tests.chaos.fleet import BOOMERANG, CLOCKED, Fleet, ProcessSlot
from tests.chaos.load import Load
from tests.chaos.recording_proxy import RecordingProxy, running_proxy

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
SHORT_TIMES = {"LEASE": "2s", "IN_DOUBT_FOR": "9s", "LOG_LEVEL": "warning", "LOG_FORMAT": "json"}
FINAL_STATES = frozenset({"success", "failed", "canceled"})
SETTLE_TIMEOUT = 180.0
"""Seconds after the last fault within which every task and delivery must end."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The number of kills in total, of injections of another fault, and of runs."""

    kills: int
    injections: int
    runs: int = 1
    seed: int = 1

    def seeded_random(self) -> Random:
        """Return the generator of all random choices."""
        return Random(self.seed)  # noqa: S311 - faults need a seed, not secrecy


@dataclass(kw_only=True)
class Environment:
    """A service under load."""

    fault: str
    database_url: str
    sandbox: Upstream
    receiver: Receiver
    proxy: RecordingProxy
    load: Load
    fleet: Fleet
    started: float = field(default_factory=time.monotonic)
    unexpected: list[str] = field(default_factory=list)

    async def wait_for_progress(self, tasks: int = 4) -> None:
        """Wait until `tasks` more tasks are confirmed and more callbacks acknowledged."""
        confirmed, acknowledged = len(self.load.tasks), len(self.proxy.acknowledged)

        def progressed() -> bool:
            self._check_processes()
            return len(self.load.tasks) >= confirmed + tasks and len(self.proxy.acknowledged) > acknowledged

        await until(progressed, what="progress of tasks and callbacks")

    async def wait_for_deferred(self, callbacks: int = 1, *, seconds: float = 30.0) -> None:
        """Wait until `callbacks` more callbacks are answered with 503."""
        before = self.deferred

        def deferred() -> bool:
            self._check_processes()
            return self.deferred >= before + callbacks

        await until(deferred, what="a deferred callback", seconds=seconds)

    def _check_processes(self) -> None:
        if self.fleet.exited:
            raise AssertionError("; ".join(self.fleet.exited))

    @property
    def deferred(self) -> int:
        """Return the number of callbacks answered with 503."""
        return self.proxy.answers[httpx.codes.SERVICE_UNAVAILABLE]

    async def audit(self) -> Audit:
        """Wait until all work has ended, without further faults, and collect the records."""
        await self.fleet.ready()
        await self.load.stop()
        process_slot = self.fleet.slots[0]
        async with service(self.fleet.child(process_slot)) as at:
            await self._wait_until_settled(at)
            acknowledged = dict(self.proxy.acknowledged)
            await until(self._all_read, what="an inbox without unread callbacks", pause=0.2)
            records = await self._records(at)
        self._check_processes()
        await self.fleet.stopped()
        return Audit(
            fault=self.fault,
            injected=self.fleet.injected,
            records=records,
            confirmed=dict(self.load.tasks),
            acknowledged=acknowledged,
            deferred=self.deferred,
            inbox=read_inbox(self.database_url),
            unexpected=[*self.unexpected, *self.proxy.unexpected, *self.load.unexpected, *self.receiver.refused],
            seconds=time.monotonic() - self.started,
        )

    async def _wait_until_settled(self, at: Service) -> None:
        async def ended() -> bool:
            return set((await self.sandbox.ledger())["tasks"]) <= FINAL_STATES

        with anyio.fail_after(SETTLE_TIMEOUT):
            await until(ended, what="the end of the provider's tasks", pause=0.25)
            await at.wait_until_idle(seconds=SETTLE_TIMEOUT)

    def _all_read(self) -> bool:
        return "unread" not in read_inbox(self.database_url).values()

    async def _records(self, at: Service) -> RunRecords:
        """Read the records, again if a late callback changed them meanwhile."""
        while True:
            records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
            if await at.tasks() == records.tasks:
                return records
            await at.wait_until_idle(seconds=SETTLE_TIMEOUT)


@asynccontextmanager
async def open_environment(
    fault: str,
    workspace: Workspace,
    database_url: str,
    slots: list[ProcessSlot],
    *,
    web_processes: int = 1,
    command: Sequence[str] = BOOMERANG,
    load: int = 6,
    switches: Mapping[str, str] = SWITCHES,
    **more: str,
) -> AsyncIterator[Environment]:
    """Yield an environment under load: the first `web_processes` slots take requests, `more` are settings.

    No process of the service is started yet. The load ends with the block.
    """
    faults = [word for name, value in switches.items() for word in (f"--{name}", value)]
    async with (
        upstream(workspace, "--tiny-videos", *faults) as sandbox,
        receiving(derive_webhook_secret(SECRET), ignore_time=command is CLOCKED) as receiver,
        running_proxy([process_slot.url for process_slot in slots[:web_processes]]) as proxy,
        anyio.create_task_group() as group,
    ):
        given = {**SHORT_TIMES, "WEBHOOK_URL": receiver.url, **more}
        env = settings(sandbox.url, proxy.url, database_url, **given)
        clients = Load(proxy=proxy, clients=load)
        group.start_soon(clients.run)
        fleet = Fleet(workspace=workspace, env=env, slots=slots, command=command)
        yield Environment(
            fault=fault,
            database_url=database_url,
            sandbox=sandbox,
            receiver=receiver,
            proxy=proxy,
            load=clients,
            fleet=fleet,
        )
        group.cancel_scope.cancel()
