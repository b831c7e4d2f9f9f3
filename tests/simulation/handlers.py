"""The handlers of a run: two of our own, the real webhook, and the receiver that webhooks go to."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from handlers.webhook import handlers as webhook_handlers
from service.deliveries.handler_api import Event, Handle, Handler, Tools
from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry
from service.domain.task import EventType
from tests.simulation.history import History, Run
from tests.simulation.loop import OWNER, SimLoop
from tests.simulation.seeded_faults import Dice

ALL = frozenset(EventType)
BOOK = "book"
KEEPER = "keeper"
WEBHOOK = "webhook"
SLOWEST = 60.0
WHOLE = b"mp4"


class Misbehaved(Exception):
    """What a handler of the simulation fails with."""


class Stage:
    """Makes the handlers of one process, which misbehave as the dice say, and keeps every run in the history."""

    def __init__(self, loop: SimLoop, dice: Dice, history: History, *, trouble: float, slow: float) -> None:
        self._loop = loop
        self._dice = dice
        self._history = history
        self._trouble = trouble
        self._slow = slow
        self._seen: set[str] = set()
        self._counts: dict[str, int] = {}
        self.shelf: dict[str, bytes] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by name."""
        webhook = next(iter(webhook_handlers))
        made = [
            Handler(name=BOOK, events=ALL, handle=self.watched(BOOK, self._book), timeout=SLOWEST),
            Handler(name=KEEPER, events=frozenset({"task.completed"}), handle=self.watched(KEEPER, self._keep)),
            replace(webhook, handle=self.watched(WEBHOOK, webhook.handle)),
        ]
        return {handler.name: handler for handler in made}

    def watched(self, name: str, handle: Handle) -> Handle:
        """Return `handle`, whose every run is kept."""

        async def run(event: Event, tools: Tools) -> None:
            kept = self._begin(name, event, tools)
            try:
                await handle(event, tools)
            except BaseException as error:
                kept.outcome = type(error).__name__
                if isinstance(error, Retry) and error.after is not None:
                    kept.asked = error.after.total_seconds()
                raise
            else:
                kept.outcome = "fine"
            finally:
                kept.ended = self._loop.time()
                self._note(kept, f"ends {kept.outcome}")

        return run

    def _begin(self, name: str, event: Event, tools: Tools) -> Run:
        owner = OWNER.get()
        run = Run(
            process=getattr(owner, "name", "?"),
            handler=name,
            task=event.task.id,
            target=json.dumps(tools.target, sort_keys=True),
            event_id=event.id,
            event_type=event.type,
            message_id=tools.message_id,
            attempt=tools.attempt,
            began=self._loop.time(),
        )
        self._history.runs.append(run)
        self._note(run, "begins")
        return run

    def _note(self, run: Run, what: str) -> None:
        self._history.note(
            self._loop.time(), "handler", f"{run.process} {run.handler} {run.event_type} attempt {run.attempt} {what}"
        )

    def _draw(self, what: str, handler: str, event: Event) -> float:
        """Draw anew for each run of a handler for an event; tasks are known by the number that the client gave."""
        key = f"{handler}/{event.metadata.get('n')}/{event.type}"
        if what == "count":
            self._counts[key] = self._counts.get(key, 0) + 1
        return self._dice.draw(what, f"{key}/{self._counts.get(key, 0)}")

    async def _book(self, event: Event, tools: Tools) -> None:
        assert tools.message_id
        self._draw("count", BOOK, event)
        if self._draw("slow handler", BOOK, event) < self._slow:
            await asyncio.sleep(self._draw("how slow", BOOK, event) * SLOWEST * 1.2)
        if self._draw("trouble", BOOK, event) >= self._trouble:
            return
        kind = self._draw("kind of trouble", BOOK, event)
        if kind < 0.1:
            raise Reject("never again")
        if kind < 0.3:
            raise Retry("busy", after=1 + 20 * self._draw("after", BOOK, event))
        raise Misbehaved("not today")

    async def _keep(self, event: Event, tools: Tools) -> None:
        """Keep the first output, as the archive does: a file is written whole before anybody is told of it."""
        self._draw("count", KEEPER, event)
        if self._draw("refetch", KEEPER, event) < 0.3 and event.task.upstream_id:
            await tools.results.refetch(event.task.id)
        if not event.task.output:
            return
        address = f"file:///kept/{event.task.id}.mp4"
        await self._written(address, self._draw("disk", KEEPER, event))
        kept = Artifact(
            url=event.task.output[0]["url"], archived_url=address, media_type="video/mp4", bytes=len(WHOLE), sha256="0"
        )
        await tools.results.keep(event.task.id, kept)

    async def _written(self, address: str, seconds: float) -> None:
        """Write a file beside its place, and put it there once it is whole."""
        beside = f"{address}.part"
        for length in range(1, len(WHOLE) + 1):
            self.shelf[beside] = WHOLE[:length]
            await asyncio.sleep(seconds / len(WHOLE))
        self.shelf[address] = self.shelf[beside]

    async def receiver(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take webhooks: each message once, with the faults of a receiver in between."""
        await receive()
        message_id = dict(scope["headers"])[b"webhook-id"].decode()
        self._counts[message_id] = self._counts.get(message_id, 0) + 1
        occasion = f"hook/{len(self._seen)}/{self._counts[message_id]}"
        if self._dice.draw("slow hook", occasion) < self._slow / 2:
            await asyncio.sleep(20 * self._dice.draw("hook delay", occasion))
        status = 500 if self._dice.draw("hook", occasion) < self._trouble else 204
        if status == 204:
            self._seen.add(message_id)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def processed(self, message_id: str) -> bool:
        """Return whether the receiver has taken this message."""
        return message_id in self._seen
