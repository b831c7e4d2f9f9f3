"""The handlers of a run: two sample handlers, the real webhook, and the receiver of webhooks."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from handlers.webhook import handlers as webhook_handlers
from service import Handlers, OperatorEvent
from service.deliveries.handler_api import Event, Handle, Handler, Tools
from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry
from service.domain.task import EventType
from tests.simulation.history import HandlerRun, History
from tests.simulation.loop import OWNER, SimLoop
from tests.simulation.operations import Done
from tests.simulation.seeded_faults import SeededFaults

ALL = frozenset(EventType)
FLAKY = "book"
ARCHIVER = "keeper"
"""The stored names are keys of the random draws: other ones would change the run of every seed."""
WEBHOOK = "webhook"
MAX_HANDLER_SECONDS = 60.0
FILE_CONTENT = b"mp4"


class HandlerFailed(Exception):
    """The error of a failing sample handler."""


class SampleHandlers:
    """Builds the handlers of a process; they fail by seeded chance, and the history records every run."""

    def __init__(
        self,
        loop: SimLoop,
        seeded_faults: SeededFaults,
        history: History,
        *,
        failure_rate: float,
        slow: float,
        done: Done | None = None,
    ) -> None:
        self._loop = loop
        self._seeded_faults = seeded_faults
        self._history = history
        self._failure_rate = failure_rate
        self._slow = slow
        self._seen: set[str] = set()
        self._counts: dict[str, int] = {}
        self._done = done
        self.stored_files: dict[str, bytes] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by name."""
        webhook = next(iter(webhook_handlers))
        made = [
            Handler(
                name=FLAKY, events=ALL, handle=self.watched(FLAKY, self._handle_flaky), timeout=MAX_HANDLER_SECONDS
            ),
            Handler(
                name=ARCHIVER,
                events=frozenset({"task.completed"}),
                handle=self.watched(ARCHIVER, self._handle_archiver),
            ),
            replace(webhook, handle=self.watched(WEBHOOK, webhook.handle)),
        ]
        if self._done:
            made += _operator_handler(self._done.operator_events)
        return {handler.name: handler for handler in made}

    def watched(self, name: str, handle: Handle) -> Handle:
        """Return `handle`, with every run recorded in the history."""

        async def run(event: Event, tools: Tools) -> None:
            record = self._begin(name, event, tools)
            try:
                await handle(event, tools)
            except BaseException as error:
                record.outcome = type(error).__name__
                if isinstance(error, Retry) and error.after is not None:
                    record.requested_pause = error.after.total_seconds()
                raise
            else:
                record.outcome = "fine"
            finally:
                record.ended = self._loop.time()
                self._note(record, f"ends {record.outcome}")

        return run

    def _begin(self, name: str, event: Event, tools: Tools) -> HandlerRun:
        owner = OWNER.get()
        run = HandlerRun(
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

    def _note(self, run: HandlerRun, what: str) -> None:
        self._history.note(
            self._loop.time(), "handler", f"{run.process} {run.handler} {run.event_type} attempt {run.attempt} {what}"
        )

    def _draw(self, what: str, handler: str, event: Event) -> float:
        """Draw a number for each run of a handler for an event; the client's number identifies the task."""
        key = f"{handler}/{event.metadata.get('n')}/{event.type}"
        if what == "count":
            self._counts[key] = self._counts.get(key, 0) + 1
        return self._seeded_faults.draw(what, f"{key}/{self._counts.get(key, 0)}")

    async def _handle_flaky(self, event: Event, tools: Tools) -> None:
        assert tools.message_id
        self._draw("count", FLAKY, event)
        if self._done and not self._done.repaired and event.metadata.get("n") == "private-2":
            raise Reject("not before it is repaired")
        if self._draw("slow handler", FLAKY, event) < self._slow:
            await asyncio.sleep(self._draw("how slow", FLAKY, event) * MAX_HANDLER_SECONDS * 1.2)
        if self._draw("trouble", FLAKY, event) >= self._failure_rate:
            return
        kind = self._draw("kind of trouble", FLAKY, event)
        if kind < 0.1:
            raise Reject("never again")
        if kind < 0.3:
            raise Retry("busy", after=1 + 20 * self._draw("after", FLAKY, event))
        raise HandlerFailed("not today")

    async def _handle_archiver(self, event: Event, tools: Tools) -> None:
        """Store each output by itself, as the archive does: a bad one does not keep the others from it."""
        self._draw("count", ARCHIVER, event)
        if self._draw("refetch", ARCHIVER, event) < 0.3 and event.task.upstream_id:
            await tools.results.refetch(event.task.id)
        several = len(event.task.output) > 1
        bad = []
        for position, item in enumerate(event.task.output):
            if several and self._draw(f"bad result {position}", ARCHIVER, event) < self._failure_rate / 2:
                bad.append(position)
            else:
                await self._store_result(position, str(item["url"]), event, tools)
        if bad:
            raise Retry(f"outputs {bad} are not what they claim to be")

    async def _store_result(self, position: int, url: str, event: Event, tools: Tools) -> None:
        """Store one output: the file is complete before it is reported, and a stored one is not fetched again."""
        address = f"file:///kept/{event.task.id}{'' if position == 0 else f'-{position + 1}'}.mp4"
        if position == 0 or address not in self.stored_files:
            await self._write_file(address, self._draw("disk", ARCHIVER, event))
        artifact = Artifact(url=url, archived_url=address, media_type="video/mp4", bytes=len(FILE_CONTENT), sha256="0")
        await tools.results.keep(event.task.id, artifact)

    async def _write_file(self, address: str, seconds: float) -> None:
        """Write a partial file, and rename it once it is complete."""
        partial = f"{address}.part"
        for length in range(1, len(FILE_CONTENT) + 1):
            self.stored_files[partial] = FILE_CONTENT[:length]
            await asyncio.sleep(seconds / len(FILE_CONTENT))
        self.stored_files[address] = self.stored_files[partial]

    async def receiver(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept each webhook message once, with a receiver's delays and errors."""
        await receive()
        message_id = dict(scope["headers"])[b"webhook-id"].decode()
        self._counts[message_id] = self._counts.get(message_id, 0) + 1
        occasion = f"hook/{len(self._seen)}/{self._counts[message_id]}"
        if self._seeded_faults.draw("slow hook", occasion) < self._slow / 2:
            await asyncio.sleep(20 * self._seeded_faults.draw("hook delay", occasion))
        status = 500 if self._seeded_faults.draw("hook", occasion) < self._failure_rate else 204
        if status == 204:
            self._seen.add(message_id)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def processed(self, message_id: str) -> bool:
        """Return whether the receiver has accepted this message."""
        return message_id in self._seen


def _operator_handler(seen: list[str]) -> Handlers:
    """Return the handler that notes the ids of operator events."""
    module = Handlers()

    @module.on_operator_event(name="ops")
    async def ops(event: OperatorEvent, _tools: Tools) -> None:
        await asyncio.sleep(0.05)
        seen.append(event.id)

    return module
