"""A client that follows the stream of events, whose connections are cut again and again."""

import asyncio
from contextlib import suppress

import httpx

from tests.simulation.operations import SERVICE, TRIES
from tests.simulation.seeded_faults import SeededFaults

READ_PAUSE = 7.0
"""Most seconds between two reads of the stream by one reader; more while nothing happens."""


class StreamReader:
    """Reads the stream of events from the beginning, again and again from its last number; connections are cut."""

    def __init__(self, number: int, http: httpx.AsyncClient, seeded_faults: SeededFaults) -> None:
        self._number = number
        self._http = http
        self._seeded_faults = seeded_faults
        self._reads = 0
        self.numbers: list[int] = []

    async def follow(self) -> None:
        """Read until cancelled."""
        idle = 0
        while True:
            wait, before = (0, 3)[self._draw("wait") < 0.5], len(self.numbers)
            with suppress(httpx.TransportError):
                await self._read(wait, cut=self._draw("cut") < 0.3)
            idle = idle + 1 if len(self.numbers) == before else 0
            await asyncio.sleep(READ_PAUSE * self._draw("pause") * (1 + idle) ** 2)

    async def read_rest(self) -> None:
        """Read what is left."""
        for _ in range(TRIES):
            before = len(self.numbers)
            with suppress(httpx.TransportError):
                if await self._read(0, cut=False) and len(self.numbers) == before:
                    return
            await asyncio.sleep(1)

    async def _read(self, wait: int, *, cut: bool) -> bool:
        """Read once; return whether the whole answer came."""
        after = self.numbers[-1] if self.numbers else 0
        headers = {"Last-Event-ID": str(after)}
        answer = await self._http.get(f"{SERVICE}/v1/events?wait={wait}", headers=headers)
        if answer.status_code != httpx.codes.OK:
            return False
        text = answer.text
        if cut:
            text = text[: int(len(text) * self._draw("where"))]
        for part in text.split("\n\n")[:-1]:
            [number] = [line.partition(": ")[2] for line in part.splitlines() if line.startswith("id: ")]
            self.numbers.append(int(number))
        return not cut

    def _draw(self, what: str) -> float:
        self._reads += 1
        return self._seeded_faults.draw(f"stream {what}", f"{self._number}/{self._reads}")
