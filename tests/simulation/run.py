"""One run from its first moment to its last: the world, the processes in it, and what is looked at while it turns."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from random import Random
from typing import Any

import httpx

from service.domain.callback import callback_digest
from service.domain.errors import BadToken
from service.domain.tokens import Tokens
from service.sandbox import Sandbox, Switches
from tests.simulation import facts
from tests.simulation.client import Attacker, Client
from tests.simulation.handlers import Stage
from tests.simulation.history import Called, History
from tests.simulation.limits import Limits
from tests.simulation.loop import SimLoop, own_loop
from tests.simulation.machine_faults import FullDisk, Surroundings
from tests.simulation.network import Line, Network, Passage, Place, Server, params_of, payload_of
from tests.simulation.process import Process
from tests.simulation.scenario import LONG, Scenario
from tests.simulation.scheduler import WAKE, Interests, SimScheduler
from tests.simulation.seeded_faults import Dice
from tests.simulation.settings import KEY, SECRET, settings_of
from tests.simulation.sqlite import fresh_database

HORIZON = 40 * 3600.0
LONGEST_PAUSE = 60.0
LONG_HORIZON = 1000 * 3600.0
"""Seconds of virtual time after which a run that is not through waits for ever; on a long schedule, later."""


class World:
    """Plays one scenario."""

    def __init__(self, scenario: Scenario, loop: SimLoop) -> None:
        self.scenario = scenario
        self.loop = loop
        self.history = History()
        self.dice = Dice(scenario.seed)
        self.path = fresh_database()
        self.reader = sqlite3.connect(self.path, isolation_level=None)
        self.interests = Interests(self.reader)
        self.network = Network(loop, self.dice, scenario.weather, self.history)
        self.tokens = Tokens([SECRET])
        self.sandbox = self._sandbox()
        stage = Stage(loop, self.dice, self.history, trouble=scenario.handler_trouble, slow=scenario.handler_slow)
        self.stage = stage
        self._changed = asyncio.Event()
        self.settings = settings_of(scenario, f"sqlite:///{self.path}")
        around = Surroundings(
            loop=loop,
            network=self.network,
            dice=self.dice,
            history=self.history,
            interests=self.interests,
            settings=self.settings,
            handlers=lambda: dict(stage.handlers()),
            commit_delay=scenario.commit_delay,
            faithful=scenario.faithful,
            crowd=scenario.crowd,
            wakes=scenario.woken_every is None,
            full_disks=scenario.full_disks,
            on_commit=self._committed,
            on_death=self._changed.set,
        )
        self.processes = [Process(number, around, scenario) for number in range(scenario.processes)]
        self._limits = Limits(self.reader, self.settings, self.history)
        self._cron = SimScheduler(loop, self.interests, self._ahead, faithful=scenario.faithful)

    def _sandbox(self) -> Sandbox:
        switches: dict[str, Any] = {"tiny_videos": True, "key": KEY, **self.scenario.switches}
        return Sandbox(
            Switches(**switches),
            now=self.loop.now,
            random=Random(self.scenario.seed),  # noqa: S311 - faults need a seed, not secrecy
            transport=Line(self.network, None),
        )

    # ── the run ──────────────────────────────────────────────────────────────

    async def play(self) -> None:
        """Play it to its end: every task settled, every delivery through, every process stopped."""
        async with self._upstream(), self._http() as http:
            client = Client(http, self.loop, self.history)
            self.attacker = Attacker(http=http, dice=self.dice)
            for process in self.processes:
                process.start()
            self.loop.on_lap = self._lap if any(crash.point == "lap" for crash in self.scenario.crashes) else None
            keeper = self.loop.create_task(self._keep_alive())
            self._wake_with(client)
            await self._asked(client)
            await self._quiet()
            await self._replayed(client)
            await self._quiet()
            keeper.cancel()
            self._cron.shutdown(wait=False)
            self.loop.on_lap = None
            await asyncio.gather(keeper, return_exceptions=True)
            await self._stopped()

    def _ahead(self) -> float:
        """Return how far the fastest of the processes' clocks is ahead."""
        return max(process.ahead for process in self.processes)

    def _wake_with(self, client: Client) -> None:
        """Let a cron job wake the processes, where they make no rounds of their own."""
        if self.scenario.woken_every is not None:
            self._cron.add(WAKE, client.wake, every=self.scenario.woken_every)
            for jump in self.scenario.jumps:
                self.loop.call_at(jump.at, self._cron.jumped)
        self._cron.start()

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[None]:
        base = copy_context()
        async with self.sandbox.running():
            self.network.serve("upstream.test", Place(name="upstream", app=self.sandbox.app, context=base))
            self.network.serve("hooks.test", Place(name="hooks", app=self.stage.receiver, context=base))
            self.network.arrived = self._arrived
            self.network.served = self._served
            self.network.replied = self._replied
            yield

    def _http(self) -> httpx.AsyncClient:
        headers = {"Authorization": "Bearer client-key"}
        return httpx.AsyncClient(transport=Line(self.network, None), trust_env=False, timeout=30, headers=headers)

    async def _asked(self, client: Client) -> None:
        wishes = [client.wish(wish) for wish in self.scenario.wishes]
        attacks = [self.attacker.attack(number, 5 + 10.0 * number) for number in range(self.scenario.attackers)]
        restarts = [self._restart(at) for at in self.scenario.restarts]
        troubles = [self._full_disk(full) for full in self.scenario.full_disks]
        await asyncio.gather(*wishes, *attacks, *restarts, *troubles)

    async def _full_disk(self, full: FullDisk) -> None:
        """Note when the disk is full: nothing is on time then."""
        self.history.amiss("full disk", full.at, full.at + full.seconds)
        await asyncio.sleep(full.at + full.seconds)

    async def _restart(self, at: float) -> None:
        """Stop a process as a deployment does, and start it again."""
        await asyncio.sleep(at)
        process = self.processes[0]
        if not process.dead:
            process.down_until = self.loop.time() + 3600  # nobody else starts it meanwhile
            await process.stop()
            troubled = self.scenario.crashes or self.scenario.stalls or self.scenario.full_disks
            alone = self.scenario.processes == 1 and self.scenario.true_clocks and not troubled
            if alone and facts.leased(self.reader, self.loop.time()):
                self.history.complain("P7: a lease is held after a clean stop")
            process.down_until = self.loop.time() + 1
            self._changed.set()

    async def _keep_alive(self) -> None:
        """Start again what has died, once its time is up."""
        while True:
            for process in self.processes:
                if process.dead and self.loop.time() >= process.down_until:
                    await process.buried()
                    process.start()
            self._changed.clear()
            waits = [process.down_until - self.loop.time() for process in self.processes if process.dead]
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(waits)) if waits else None):
                    await self._changed.wait()

    async def _replayed(self, client: Client) -> None:
        ended = list(self.reader.execute("SELECT id FROM deliveries WHERE status != 'pending' ORDER BY id"))
        for number in range(min(self.scenario.replays, len(ended))):
            chosen = ended[int(self.dice.draw("replay", str(number)) * len(ended))][0]
            if chosen not in self.history.replayed:
                self.history.replayed[chosen] = self.loop.time()
                if await client.replay(chosen):
                    self.history.confirmed.add(chosen)

    async def _stopped(self) -> None:
        for process in self.processes:
            if process.dead:
                await process.buried()
            else:
                await process.stop()
                await process.buried()

    # ── while it turns ───────────────────────────────────────────────────────

    async def _quiet(self) -> None:
        """Return once nothing is left to be done, or complain when that takes too long."""
        pause = 1.0
        horizon = LONG_HORIZON if self.scenario.schedule == LONG else HORIZON
        while not await self._nothing_left():
            if self.loop.time() > horizon:
                self.history.complain("P7: something waits for ever")
                return
            await asyncio.sleep(pause)
            pause = min(horizon / 2000, pause * 1.2)

    async def _nothing_left(self) -> bool:
        await self.sandbox.idle()
        ended = {task.id for task in self.sandbox._state.tasks.values() if task.state.final}
        away = any(process.dead for process in self.processes)
        return not (
            away
            or self.network.busy
            or facts.busy(self.reader, self.loop.time() + self._ahead())
            or ended & set(facts.open_guesses(self.reader))
        )

    def _lap(self) -> None:
        for process in self.processes:
            process.point("lap")

    def _committed(self, rows: int) -> None:
        if rows:
            for task_id, status in facts.waiting_silently(self.reader):
                self.history.complain(f"P7: task {task_id} is {status} without a due time or a lease")
            self.interests.changed()
            self._limits.look()
        self._cron.replan(moved=rows > 0)
        for process in self.processes:
            process.replan(moved=rows > 0)

    def _arrived(self, passage: Passage, server: Server) -> None:
        self.history.note(self.loop.time(), passage.kind, f"#{passage.number} reaches {server.name}")
        if passage.kind == "create":
            self._note_addresses(passage)
            self._die("create arrives", passage)

    def _note_addresses(self, passage: Passage) -> None:
        address = params_of(passage).get("callback_url")
        if address:
            self.attacker.seen.append((address.rpartition("/")[2], payload_of(passage)))

    def _served(self, passage: Passage, server: Server, status: int) -> None:
        if passage.kind == "create":
            self._die("create served", passage)
        if passage.kind in {"fetch", "list", "create"} and status >= 400:
            self.history.amiss(passage.kind, self.loop.time(), self.loop.time(), passage.request.url.path)
        if status == 429:
            self.history.amiss("throttled", self.loop.time(), self.loop.time() + LONGEST_PAUSE)
        if passage.kind == "callback":
            self._note_callback(passage, server, status)

    def _replied(self, passage: Passage, status: int) -> None:
        if passage.kind == "create" and status < 300:
            self.history.replied[payload_of(passage)] = self.loop.time()

    def _note_callback(self, passage: Passage, server: Server, status: int) -> None:
        token = passage.request.url.path.rpartition("/")[2]
        forged = token in self.attacker.sent
        self.history.called.append(
            Called(at=self.loop.time(), token=token, body=passage.body, status=status, forged=forged)
        )
        if isinstance(server, Process):
            server.point("callback answered")

    def _die(self, point: str, passage: Passage) -> None:
        """Let the process that sent a request die while the request is on its way."""
        for process in self.processes:
            if passage.request.extensions.get("from") == process.name:
                process.point(point)

    def digest_of(self, called: Called) -> str | None:
        """Return the inbox digest of a callback; None for a token that was never ours."""
        with suppress(BadToken):
            claim = self.tokens.read_callback_token(called.token, self.loop.now().replace(year=2026, month=5, day=6))
            return callback_digest(claim, called.body)
        return None


def play(scenario: Scenario) -> World:
    """Play `scenario` on a loop of its own, and return the world as it was at its end."""
    with own_loop() as loop:
        world = World(scenario, loop)
        try:
            loop.run_until_complete(world.play())
        except BaseException:
            _failed_unexpectedly(world)
            raise
        world.history.complaints += loop.faults
        return world


def _failed_unexpectedly(world: World) -> None:
    """End what a run that broke off leaves: its processes die, and let go what they hold."""
    world.loop.rested()
    for process in world.processes:
        process.down_until = math.inf  # nobody starts it again
        process.crash()
        world.loop.run_until_complete(process.buried())
    world.reader.close()
