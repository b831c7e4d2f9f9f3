"""One run: its environment, its processes, and the checks while it runs."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from random import Random
from typing import Any

import httpx

from service.domain.callback import callback_digest
from service.domain.errors import BadToken
from service.sandbox import Sandbox, Switches
from tests.simulation import facts
from tests.simulation.client import Attacker, Client
from tests.simulation.handlers import ARCHIVER, FLAKY, SampleHandlers
from tests.simulation.history import History, ReceivedCallback
from tests.simulation.key_changes import TOKENS, SignedTokens, apply_change, renewed_until
from tests.simulation.limits import Limits
from tests.simulation.loop import START, SimLoop, own_loop
from tests.simulation.machine_faults import FullDisk, SharedState
from tests.simulation.network import Network, OutsideServer, Server, SimTransport, Transfer, params_of, payload_of
from tests.simulation.operations import ENDPOINT_HOST, Done, EndpointReceiver, Operations, Operators
from tests.simulation.process import Process
from tests.simulation.scenario import LONG, Scenario
from tests.simulation.scheduler import RECONCILE, DueTimes, SimScheduler
from tests.simulation.seeded_faults import SeededFaults
from tests.simulation.settings import CLIENT, KEY, settings_of
from tests.simulation.sqlite import fresh_database
from tests.simulation.stream_reader import StreamReader

FORBIDDEN = 403
TIME_LIMIT = 40 * 3600.0
MAX_PAUSE_OF_PROVIDER = 60.0
OVERDUE_GRACE = 7200.0
"""Seconds after its deadline, on the slowest clock, in which a queued task must have expired."""

LONG_TIME_LIMIT = 1000 * 3600.0
"""Seconds of virtual time after which an unfinished run waits for ever; the longer limit is for the long schedule."""


Check = Callable[["Simulation"], list[str]]
"""Returns the violations in a run so far."""


class Simulation:
    """Runs one scenario; `check` checks it before the operations at its end."""

    def __init__(self, scenario: Scenario, loop: SimLoop, check: Check) -> None:
        self.scenario = scenario
        self._check = check
        self.operators: Operators | None = None
        self.loop = loop
        self.history = History()
        self.seeded_faults = SeededFaults(scenario.seed)
        self.path = fresh_database()
        self.reader = sqlite3.connect(self.path, isolation_level=None)
        self.due_times = DueTimes(self.reader)
        self.network = Network(loop, self.seeded_faults, scenario.network_faults, self.history)
        self.signed_tokens = SignedTokens()
        self._restarting = asyncio.Lock()
        self.sandbox = self._sandbox()
        self.done = Done()
        sample_handlers = SampleHandlers(
            loop,
            self.seeded_faults,
            self.history,
            failure_rate=scenario.handler_failures,
            slow=scenario.handler_slow,
            done=self.done if scenario.operations else None,
        )
        self.sample_handlers = sample_handlers
        self._changed = asyncio.Event()
        self.settings = settings_of(scenario, f"sqlite:///{self.path}")
        shared = SharedState(
            loop=loop,
            network=self.network,
            seeded_faults=self.seeded_faults,
            history=self.history,
            due_times=self.due_times,
            settings=self.settings,
            handlers=lambda: dict(sample_handlers.handlers()),
            commit_delay=scenario.commit_delay,
            faithful=scenario.faithful,
            burst_share=scenario.burst_share,
            runs_jobs=scenario.wake_interval is None,
            full_disks=scenario.full_disks,
            renewed_until=renewed_until(scenario.key_changes),
            on_commit=self._committed,
            on_crash=self._changed.set,
        )
        self.processes = [Process(number, shared, scenario) for number in range(scenario.processes)]
        self._limits = Limits(
            self.reader,
            self.settings,
            self.history,
            true_clocks=scenario.true_clocks,
            true_costs=scenario.true_costs,
            client=CLIENT,
        )
        self._cron = SimScheduler(loop, self.due_times, self._ahead, faithful=scenario.faithful)

    def _sandbox(self) -> Sandbox:
        switches: dict[str, Any] = {"tiny_videos": True, "key": KEY, **self.scenario.switches}
        return Sandbox(
            Switches(**switches),
            now=self.loop.now,
            random=Random(self.scenario.seed),  # noqa: S311 - faults need a seed, not secrecy
            transport=SimTransport(self.network, None),
        )

    # ── the run ──────────────────────────────────────────────────────────────

    async def simulate(self) -> None:
        """Run until every task is settled, every delivery ended and every process stopped."""
        async with self._upstream(), self._http() as http:
            client = Client(http, self.loop, self.history)
            self.attacker = Attacker(http=http, seeded_faults=self.seeded_faults)
            for process in self.processes:
                process.start()
            self.loop.on_iteration = (
                self._pass_iteration_point
                if any(crash.point == "iteration" for crash in self.scenario.crashes)
                else None
            )
            restarter = self.loop.create_task(self._restart_crashed())
            self._reconcile_periodically(client)
            readers, following = self._follow_events(http)
            await self._run_clients(client)
            await self._wait_until_idle()
            await self._replay_some(client)
            await self._wait_until_idle()
            if self.scenario.operations:
                await self._operate(self.scenario.operations, http)
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            for reader in readers:
                await reader.read_rest()
            restarter.cancel()
            self._cron.shutdown(wait=False)
            self.loop.on_iteration = None
            await asyncio.gather(restarter, return_exceptions=True)
            await self._stop_all()

    def _follow_events(self, http: httpx.AsyncClient) -> tuple[list[StreamReader], list[asyncio.Task[None]]]:
        """Start the readers of the stream of events."""
        count = self.scenario.operations.readers if self.scenario.operations else 0
        readers = [StreamReader(number, http, self.seeded_faults) for number in range(count)]
        self.done.streams += [reader.numbers for reader in readers]
        return readers, [self.loop.create_task(reader.follow()) for reader in readers]

    async def _operate(self, drawn: Operations, http: httpx.AsyncClient) -> None:
        """Check the run so far, then do the operations, with a crash of a process; a run that failed ends here."""
        self.history.violations += self._check(self)
        if self.history.violations:
            return
        receiver = EndpointReceiver(self.done, gone=drawn.gone)
        outside = OutsideServer(name="endpoint", app=receiver, context=copy_context())
        self.network.serve(ENDPOINT_HOST, outside)
        self.operators = Operators(
            drawn=drawn,
            http=http,
            loop=self.loop,
            reader=self.reader,
            history=self.history,
            done=self.done,
            receiver=receiver,
            handlers=(FLAKY, ARCHIVER),
        )
        crashing = self.loop.create_task(self._crash_later(drawn))
        await self.operators.run()
        await crashing
        await self._wait_until_idle()

    async def _crash_later(self, drawn: Operations) -> None:
        if drawn.crash_process is not None:
            await asyncio.sleep(drawn.crash_at)
            async with self._restarting:
                await self.processes[drawn.crash_process].restart(crash=True)

    def _ahead(self) -> float:
        """Return how far the fastest clock of all processes is ahead, in seconds."""
        return max(process.ahead for process in self.processes)

    def _reconcile_periodically(self, client: Client) -> None:
        """Trigger single passes by a cron job, where the processes run no jobs of their own."""
        if self.scenario.wake_interval is not None:
            self._cron.add(RECONCILE, client.reconcile, every=self.scenario.wake_interval)
            for jump in self.scenario.jumps:
                self.loop.call_at(jump.at, self._cron.clock_jumped)
        self._cron.start()

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[None]:
        base = copy_context()
        async with self.sandbox.running():
            self.network.serve("upstream.test", OutsideServer(name="upstream", app=self.sandbox.app, context=base))
            self.network.serve(
                "hooks.test", OutsideServer(name="hooks", app=self.sample_handlers.receiver, context=base)
            )
            self.network.arrived = self._arrived
            self.network.served = self._served
            self.network.replied = self._replied
            yield

    def _http(self) -> httpx.AsyncClient:
        headers = {"Authorization": "Bearer client-key"}
        return httpx.AsyncClient(
            transport=SimTransport(self.network, None), trust_env=False, timeout=30, headers=headers
        )

    async def _run_clients(self, client: Client) -> None:
        task_requests = [client.request_task(task_request) for task_request in self.scenario.task_requests]
        attacks = [self.attacker.attack(number, 5 + 10.0 * number) for number in range(self.scenario.attackers)]
        restarts = [self._restart(at) for at in self.scenario.restarts]
        full_disks = [self._full_disk(full) for full in self.scenario.full_disks]
        changes = [
            apply_change(change, self.processes[change.process], self._restarting)
            for change in self.scenario.key_changes
        ]
        await asyncio.gather(*task_requests, *attacks, *restarts, *full_disks, *changes)

    async def _full_disk(self, full: FullDisk) -> None:
        """Record when the disk is full, which explains delays."""
        self.history.note_disturbance("full disk", full.at, full.at + full.seconds)
        await asyncio.sleep(full.at + full.seconds)

    async def _restart(self, at: float) -> None:
        """Stop a process as a deployment does, and restart it."""
        await asyncio.sleep(at)
        process = self.processes[0]
        async with self._restarting:
            if process.dead:
                return
            await process.restart()
            faulty = self.scenario.crashes or self.scenario.stalls or self.scenario.full_disks
            alone = self.scenario.processes == 1 and self.scenario.true_clocks and not faulty
            if alone and facts.leased(self.reader, self.loop.time()):
                self.history.add_violation("P7: a lease is held after a clean shutdown")

    async def _restart_crashed(self) -> None:
        """Restart each crashed process after its downtime."""
        while True:
            for process in self.processes:
                if process.dead and self.loop.time() >= process.down_until:
                    await process.wait_closed()
                    process.start()
            self._changed.clear()
            waits = [process.down_until - self.loop.time() for process in self.processes if process.dead]
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(waits)) if waits else None):
                    await self._changed.wait()

    async def _replay_some(self, client: Client) -> None:
        ended = list(self.reader.execute("SELECT id FROM deliveries WHERE status != 'pending' ORDER BY id"))
        for number in range(min(self.scenario.replays, len(ended))):
            chosen = ended[int(self.seeded_faults.draw("replay", str(number)) * len(ended))][0]
            if chosen not in self.history.replayed:
                self.history.replayed[chosen] = self.loop.time()
                if await client.replay(chosen):
                    self.history.confirmed.add(chosen)

    async def _stop_all(self) -> None:
        for process in self.processes:
            if process.dead:
                await process.wait_closed()
            else:
                await process.stop()
                await process.wait_closed()

    # ── checks while it runs ─────────────────────────────────────────────────

    async def _wait_until_idle(self) -> None:
        """Return once no work is left; record a violation when that takes too long."""
        pause = 1.0
        horizon = LONG_TIME_LIMIT if self.scenario.schedule == LONG else TIME_LIMIT
        while not await self._is_idle():
            slowest = self.loop.time() + min(0.0, *(process.ahead for process in self.processes))
            overdue = facts.overdue(self.reader, slowest, OVERDUE_GRACE)
            if self.loop.time() > horizon or overdue:
                self.history.add_violation("P7: something waits for ever")
                return
            await asyncio.sleep(pause)
            pause = min(horizon / 2000, pause * 1.2)

    async def _is_idle(self) -> bool:
        await self.sandbox.idle()
        ended = {task.id for task in self.sandbox._state.tasks.values() if task.state.final}
        stopped = any(process.dead for process in self.processes)
        return not (
            stopped
            or self.network.busy
            or facts.busy(self.reader, self.loop.time() + self._ahead())
            or ended & set(facts.open_guesses(self.reader))
        )

    def _pass_iteration_point(self) -> None:
        for process in self.processes:
            process.point("iteration")

    def _committed(self, rows: int) -> None:
        if rows:
            for task_id, status in facts.waiting_silently(self.reader):
                self.history.add_violation(f"P7: task {task_id} is {status} without a due time or a lease")
            self.due_times.changed()
            self._limits.check()
        self._cron.reschedule(moved=rows > 0)
        for process in self.processes:
            process.reschedule(moved=rows > 0)

    def _arrived(self, transfer: Transfer, server: Server) -> None:
        self.history.note(self.loop.time(), transfer.kind, f"#{transfer.number} reaches {server.name}")
        if transfer.kind == "create":
            self._note_addresses(transfer)
            self._crash("create arrives", transfer)

    def _note_addresses(self, transfer: Transfer) -> None:
        address = params_of(transfer).get("callback_url")
        if address:
            self.attacker.seen.append((address.rpartition("/")[2], payload_of(transfer)))
            for process in self.processes:
                if transfer.request.extensions.get("from") == process.name:
                    self._note_token(address.rpartition("/")[2], process)

    def _note_token(self, token: str, process: Process) -> None:
        """Note which key signed; a process that cannot renew its registration for long excuses the choice."""
        violation = self.signed_tokens.note(token, process, self.processes, self.loop.time())
        if violation and not (self.scenario.stalls or self.scenario.full_disks):
            self.history.add_violation(violation)

    def _served(self, transfer: Transfer, server: Server, status: int) -> None:
        if transfer.kind == "create":
            self._crash("create served", transfer)
        if transfer.kind in {"fetch", "list", "create"} and status >= 400:
            self.history.note_disturbance(transfer.kind, self.loop.time(), self.loop.time(), transfer.request.url.path)
        if status == 429:
            self.history.note_disturbance("throttled", self.loop.time(), self.loop.time() + MAX_PAUSE_OF_PROVIDER)
        if transfer.kind == "callback":
            self._note_callback(transfer, server, status)

    def _replied(self, transfer: Transfer, status: int) -> None:
        if transfer.kind == "create" and status < 300:
            self.history.replied[payload_of(transfer)] = self.loop.time()

    def _note_callback(self, transfer: Transfer, server: Server, status: int) -> None:
        token = transfer.request.url.path.removeprefix("/callbacks/").rstrip("/")
        forged = token in self.attacker.sent
        if isinstance(server, Process) and status == FORBIDDEN and not forged:
            self._note(self.signed_tokens.refused(token, server, self.processes))
        self.history.callbacks.append(
            ReceivedCallback(at=self.loop.time(), token=token, body=transfer.body, status=status, forged=forged)
        )
        if isinstance(server, Process):
            server.point("callback answered")

    def _note(self, violation: str | None) -> None:
        if violation:
            self.history.add_violation(violation)

    def _crash(self, point: str, transfer: Transfer) -> None:
        """Pass a crash point of the process that sent the request."""
        for process in self.processes:
            if transfer.request.extensions.get("from") == process.name:
                process.point(point)

    def digest_of(self, callback: ReceivedCallback) -> str | None:
        """Return the inbox digest of a callback; None for a forged token."""
        with suppress(BadToken):
            claim = TOKENS.read_callback_token(callback.token, START)
            return callback_digest(claim, callback.body)
        return None


def simulate(scenario: Scenario, check: Check) -> Simulation:
    """Run `scenario` on a new loop, and return the simulation at its end; `check` checks it before its operations."""
    with own_loop() as loop:
        simulation = Simulation(scenario, loop, check)
        try:
            loop.run_until_complete(simulation.simulate())
        except BaseException:
            _failed_unexpectedly(simulation)
            raise
        simulation.history.violations += loop.faults
        return simulation


def _failed_unexpectedly(simulation: Simulation) -> None:
    """Crash the processes of a failed run, and release what they hold."""
    simulation.loop.reset_iterations()
    for process in simulation.processes:
        process.down_until = math.inf  # it is not restarted
        process.crash()
        simulation.loop.run_until_complete(process.wait_closed())
    simulation.reader.close()
