"""Measure whether the duration of a secret's check depends on how much of a guess is right.

`python -m tests.security.timing [SAMPLES]`. Each check is timed with a value that is wrong from its first character and
with one that is wrong in its last, in random order. It prints the difference of the medians, its 99 % interval by
bootstrap, and Welch's t of the fastest nine tenths. It also times a plain == of 64 KB, to show that the
method detects a difference. It has no limits: a shared machine is noisy. Another test refuses == on secrets.
"""

import argparse
import random
import statistics
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

SAMPLES = 10_000
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
class Measurement:
    """The measurement of a pair, in nanoseconds for one check."""

    name: str
    median: float
    difference: float
    interval: tuple[float, float]
    t: float

    def row(self) -> str:
        """Return its row of the table."""
        between = " to ".join(f"{end:+,.1f}" for end in self.interval)
        return f"| {self.name} | {self.median:,.0f} | {self.difference:+,.1f} | {between} | {self.t:+.1f} |"


def _wrong_at(text: str, position: int) -> str:
    """Return the text with another character at this position."""
    other = "A" if text[position] != "A" else "B"
    return text[:position] + other + text[position + 1 :] if position != -1 else text[:-1] + other


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
        """Send nothing."""

    middleware = ApiKeyMiddleware(
        nobody, routes=[], api_keys=[ApiKey(name="alice", key=KEY), ApiKey(name="bob", key=KEY[::-1])]
    )

    def check(key: str) -> None:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        middleware._caller(Request({"type": "http", "path": "/v1/tasks", "headers": headers}))

    return _pair("API key", check, KEY)


def measured(pair: Pair, samples: int, rng: random.Random) -> Measurement:
    """Time both checks in random order."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(samples):
        late = rng.random() < 0.5
        check = pair.late if late else pair.early
        began = time.perf_counter_ns()
        for _ in range(BATCH):
            check()
        times[late].append((time.perf_counter_ns() - began) / BATCH)
    early, late_ones = _quick(times[False]), _quick(times[True])
    return Measurement(
        name=pair.name,
        median=statistics.median(early),
        difference=statistics.median(late_ones) - statistics.median(early),
        interval=_interval(early, late_ones, rng),
        t=_welch(early, late_ones),
    )


def _quick(times: list[float]) -> list[float]:
    """Return the fastest nine tenths: the others were interrupted."""
    return sorted(times)[: max(2, len(times) * 9 // 10)]


def _interval(early: Sequence[float], late: Sequence[float], rng: random.Random) -> tuple[float, float]:
    """Return the 99 % interval of the difference of the medians."""
    found = sorted(
        statistics.median(rng.choices(late, k=len(late))) - statistics.median(rng.choices(early, k=len(early)))
        for _ in range(RESAMPLED)
    )
    return found[len(found) // 200], found[-1 - len(found) // 200]


def _welch(early: Sequence[float], late: Sequence[float]) -> float:
    """Return Welch's t; above about 4.5 the two differ."""
    spread = statistics.variance(early) / len(early) + statistics.variance(late) / len(late)
    return (statistics.fmean(late) - statistics.fmean(early)) / spread**0.5 if spread else 0.0


def table(samples: int, seed: int = 1) -> list[str]:
    """Return the table's lines."""
    rng = random.Random(seed)  # noqa: S311 - it is an order, not a secret
    head = ["| check | ns | late minus early, ns | 99 % interval | Welch's t |", "|---|---|---|---|---|"]
    return head + [measured(pair, samples, rng).row() for pair in pairs()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.security.timing", description=__doc__)
    parser.add_argument("samples", nargs="?", type=int, default=SAMPLES, help="measurements of each check")
    print("\n".join(table(parser.parse_args().samples)))  # noqa: T201 - the command prints the table
