"""Replacement of signing keys in a run: processes restart with new lists of keys, one after the other."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from service.domain.errors import BadToken
from service.domain.tokens import Tokens
from tests.simulation.loop import START

if TYPE_CHECKING:
    from tests.simulation.process import Process

NEWEST, NEW, OLD = (f"a-secret-of-the-simulation-that-is-long-enough{suffix}" for suffix in ("-3", "-2", ""))
SECRETS = (NEWEST, NEW, OLD)
"""Every key, newest first."""

TOKENS = Tokens(SECRETS)
READERS = [Tokens([secret]) for secret in SECRETS]

LISTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    ((NEW, OLD),),
    ((NEW, OLD),),
    ((NEW, OLD), (NEW,)),
    ((NEW, OLD), (NEWEST, NEW, OLD)),
    ((OLD, NEW), (NEW, OLD)),
    ((NEW, OLD), (OLD,)),
    ((NEW,),),
)
"""The lists that all processes get, in turn: new keys added, old ones removed, another order, replaced at once."""

SEEN_AFTER = 15.0
"""Seconds after its start in which every other process has seen the keys of a process."""

RENEWED_FOR = 150.0
"""Seconds after the last change in which processes renew their registrations: a crashed one counts as ended."""


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """A restart of a process with other keys, as a deployment does, or after a crash."""

    process: int
    at: float
    keys: tuple[str, ...] = field(repr=False)
    crash: bool = False

    def __repr__(self) -> str:
        """Return the change without the keys."""
        names = "".join(str(SECRETS.index(key)) for key in self.keys)
        return f"KeyChange(process={self.process}, at={self.at:.1f}, keys={names!r}, crash={self.crash})"


def key_changes_of(seed: int, processes: int) -> tuple[KeyChange, ...]:
    """Return the changes of keys in the scenario of `seed`, each list rolled out in a random order; none in most."""
    random = Random(f"keys {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    if random.random() < 0.8:
        return ()
    changes: list[KeyChange] = []
    at = 0.0
    for keys in random.choice(LISTS):
        for process in random.sample(range(processes), processes):
            at += random.choice((random.uniform(0.5, 8), random.uniform(5, 40)))
            changes.append(KeyChange(process=process, at=at, keys=keys, crash=random.random() < 0.2))
    return tuple(changes)


def doubts_of(seed: int) -> dict[str, object]:
    """Return the switches that lose replies in half of the scenarios with changes: tasks are in doubt meanwhile."""
    random = Random(f"doubts {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    return random.choice(({}, {"lose_create_reply": 0.6}))


def renewed_until(changes: tuple[KeyChange, ...]) -> float:
    """Return until when registrations are renewed; without a change of keys they are not, as nothing depends on it."""
    return max((change.at for change in changes), default=-RENEWED_FOR) + RENEWED_FOR


@dataclass
class SignedTokens:
    """Which running process has signed with which key: its tokens must not be refused while it lives."""

    signers: dict[int, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))

    def note(self, token: str, process: "Process", processes: list["Process"], now: float) -> str | None:
        """Note that a process has sent an address with `token`; return the violation in that, or None."""
        if (index := _key_of(token)) is None:
            return f"{process.name} signed with an unknown key"
        self.signers[index].add((process.name, process.incarnation))
        living = [each for each in processes if not each.dead]
        common = {key for key in process.keys if all(key in each.keys for each in living)}
        seen = [each for each in living if each.started_at + SEEN_AFTER < now]
        lacking = [each.name for each in seen if SECRETS[index] not in each.keys]
        return f"P1: {process.name} signed with a key that {lacking} lack" if common and lacking else None

    def refused(self, token: str, by: "Process", processes: list["Process"]) -> str | None:
        """Return the violation in the response 403 of a process to a callback, or None: it may lack the key."""
        index = _key_of(token)
        if index is None or SECRETS[index] in by.keys:
            return None
        living = {(process.name, process.incarnation) for process in processes if not process.dead}
        names = sorted(name for name, _ in self.signers[index] & living)
        return f"P1: a callback with a token of {names} was answered with 403" if names else None


def _key_of(token: str) -> int | None:
    for index, reader in enumerate(READERS):
        with suppress(BadToken):
            reader.read_callback_token(token, START)
            return index
    return None


async def apply_change(change: KeyChange, process: "Process", restarting: asyncio.Lock) -> None:
    """Restart a process with other keys at the time of the change; a process that is down starts with them later."""
    await asyncio.sleep(change.at)
    async with restarting:
        process.keys = change.keys
        await process.restart(crash=change.crash)
