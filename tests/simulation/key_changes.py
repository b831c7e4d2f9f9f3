"""Replacement of signing keys in a run: processes restart with new lists of keys, one after the other."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from service.domain.errors import BadToken
from service.domain.tokens import Tokens
from tests.simulation.loop import START
from tests.simulation.network import NetworkFaults

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

LIST_FAULTS = frozenset(
    {
        "throttle_poll",
        "html_500_poll",
        "half_poll_reply",
        "slow_poll",
        "unknown_status",
        "error_in_200_poll",
        "other_task_poll",
        "odd_json",
        "result_delay",
    }
)
"""Switches that may keep the provider's list from being read."""

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


def doubts_of(seed: int, switches: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of a scenario with changes in which replies are lost and the list resolves the doubt.

    So it is in half of the scenarios with changes; the other half is left as it is.
    """
    if Random(f"doubts {seed}").random() < 0.5:  # noqa: S311 - a run needs a seed, not secrecy
        return {"switches": switches}
    readable = {name: value for name, value in switches.items() if name not in LIST_FAULTS}
    lost = {"lose_create_reply": 0.6}
    return {"provider": "vidu", "network_faults": NetworkFaults(), "switches": readable | lost}


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
        common = _common_keys(processes)
        seen = [each for each in processes if not each.dead and each.started_at + SEEN_AFTER < now]
        lacking = [each.name for each in seen if SECRETS[index] not in each.keys]
        return f"P1: {process.name} signed with a key that {lacking} lack" if common and lacking else None

    def refused(self, token: str, by: "Process", processes: list["Process"]) -> str | None:
        """Return the violation in the response 403 of a process to a callback, or None: it may lack the key."""
        index = _key_of(token)
        if index is None or SECRETS[index] in by.keys:
            return None
        if not _common_keys(processes):
            return None
        living = {(process.name, process.incarnation) for process in processes if not process.dead}
        names = sorted(name for name, _ in self.signers[index] & living)
        return f"P1: a callback with a token of {names} was answered with 403" if names else None


def _common_keys(processes: list["Process"]) -> set[str]:
    """Return the keys that all living processes know; without any, tokens of some are refused by others."""
    return set(SECRETS).intersection(*(process.keys for process in processes if not process.dead))


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
