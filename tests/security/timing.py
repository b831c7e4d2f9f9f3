"""Measure whether the duration of a secret's check depends on how much of a guess is right.

`python -m tests.security.timing [ROUNDS]`. Each check is timed with a value that is wrong from its first character and
with one that is wrong in its last, in random order. It prints the difference of the medians, its 99 % interval by
bootstrap, and Welch's t of the fastest nine tenths. Beside them it times a plain == of 64 KB, to show that the method
detects what there is to detect. It judges nothing: a shared machine is noisy. Another test refuses == on secrets.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from starlette.requests import Request

from service.api.authentication import ApiKeyMiddleware
from service.domain.api_key import ApiKey
from service.domain.errors import BadSignature, BadToken
from service.domain.task import TaskId
from service.domain.tokens import Tokens
from service.providers.vidu.signature import ViduVerifier, sign

ROUNDS = 10_000
BATCH = 20
"""Checks in one measurement: the clock is coarser than one of them."""

RESAMPLED = 400
NOW = datetime(2026, 5, 6, 12, 9, 42, tzinfo=UTC)
KEY = "signing-key-of-the-service-that-is-timed-1234"
URL = "https://boomerang.example.org/callbacks/token"

Check = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One check with a value that is wrong early, and with one that is wrong late."""

    name: str
    early: Check
    late: Check


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured of a pair, in nanoseconds for one check."""

    name: str
    median: float
    difference: float
    interval: tuple[float, float]
    t: float

    def row(self) -> str:
        """Return it as a row of the table."""
        between = " to ".join(f"{end:+,.1f}" for end in self.interval)
        return f"| {self.name} | {self.median:,.0f} | {self.difference:+,.1f} | {between} | {self.t:+.1f} |"


def _wrong_at(text: str, place: int) -> str:
    """Return the text with another character at this place."""
    other = "A" if text[place] != "A" else "B"
    return text[:place] + other + text[place + 1 :] if place != -1 else text[:-1] + other


def _failing(check: Callable[[str], object], value: str) -> Check:
    def run() -> None:
        with suppress(BadToken, BadSignature):
            check(value)

    return run


def _pair(name: str, check: Callable[[str], object], value: str, *, first: int = 0) -> Pair:
    """Return the pair whose secret part begins at `first` of `value`."""
    return Pair(
        name=name,
        early=_failing(check, _wrong_at(value, first)),
        late=_failing(check, _wrong_at(value, -2)),  # the very last one of base64 has spare bits
    )


def pairs() -> list[Pair]:
    """Return every check of a secret, and the plain comparison."""
    tokens = Tokens([KEY])
    token = tokens.callback_token(TaskId("0198c2aa-1111-7000-8000-000000000000"), 1, NOW + timedelta(hours=1))
    payload = tokens.payload_token(TaskId("0198c2aa-1111-7000-8000-000000000000"), 1)
    long = "k" * 65_536
    return [
        _pair("callback token", lambda text: tokens.read_callback_token(text, NOW), token, first=token.index(".") + 1),
        _pair("payload token", tokens.read_payload_token, payload, first=payload.index(".") + 1),
        _vidu(),
        _api_key(),
        _pair("plain == of 64 KB", lambda text: text == long, long),
    ]


def _vidu() -> Pair:
    headers = {
        "Date": format_datetime(NOW, usegmt=True),
        "x-request-nonce": "n1",
        "X-HMAC-ALGORITHM": "hmac-sha256",
        "X-HMAC-ACCESS-KEY": "vidu",
        "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
    }
    verifier = ViduVerifier([KEY], URL)

    def check(signature: str) -> None:
        verifier.verify({**headers, "X-HMAC-SIGNATURE": signature}, NOW)

    return _pair("Vidu's signature", check, sign(KEY, url=URL, headers=headers))


def _api_key() -> Pair:
    async def nobody(*_: object) -> None:
        """Serve nothing."""

    guard = ApiKeyMiddleware(nobody, api_keys=[ApiKey(name="alice", key=KEY), ApiKey(name="bob", key=KEY[::-1])])

    def check(key: str) -> None:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        guard._caller(Request({"type": "http", "headers": headers}))

    return _pair("API key", check, KEY)


def measured(pair: Pair, rounds: int, dice: random.Random) -> Found:
    """Time both in random order."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        late = dice.random() < 0.5
        check = pair.late if late else pair.early
        began = time.perf_counter_ns()
        for _ in range(BATCH):
            check()
        times[late].append((time.perf_counter_ns() - began) / BATCH)
    early, late_ones = _quick(times[False]), _quick(times[True])
    return Found(
        name=pair.name,
        median=statistics.median(early),
        difference=statistics.median(late_ones) - statistics.median(early),
        interval=_interval(early, late_ones, dice),
        t=_welch(early, late_ones),
    )


def _quick(times: list[float]) -> list[float]:
    """Return the faster nine tenths: the rest was interrupted."""
    return sorted(times)[: max(2, len(times) * 9 // 10)]


def _interval(early: Sequence[float], late: Sequence[float], dice: random.Random) -> tuple[float, float]:
    """Return the 99 % interval of the difference of the medians."""
    found = sorted(
        statistics.median(dice.choices(late, k=len(late))) - statistics.median(dice.choices(early, k=len(early)))
        for _ in range(RESAMPLED)
    )
    return found[len(found) // 200], found[-1 - len(found) // 200]


def _welch(early: Sequence[float], late: Sequence[float]) -> float:
    """Return Welch's t: beyond about 4.5 the two differ, however little."""
    spread = statistics.variance(early) / len(early) + statistics.variance(late) / len(late)
    return (statistics.fmean(late) - statistics.fmean(early)) / spread**0.5 if spread else 0.0


def table(rounds: int, seed: int = 1) -> list[str]:
    """Return the table's lines."""
    dice = random.Random(seed)  # noqa: S311 - an order, not a secret
    head = ["| check | ns | late minus early, ns | 99 % interval | Welch's t |", "|---|---|---|---|---|"]
    return head + [measured(pair, rounds, dice).row() for pair in pairs()]


if __name__ == "__main__":
    print("\n".join(table(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)))  # noqa: T201 - the table is what it is for
