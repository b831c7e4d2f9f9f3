"""Who may spend in a chat, how much a day, and how often a refused user is answered. Shared by the chat handlers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from service import HandlerState

KEPT = timedelta(days=2)
"""How long the tasks of a day are kept."""

REFUSED_EVERY = timedelta(hours=1)
"""A refused user gets one answer in this time, so that unknown users do not make the bot write."""

TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A task that counts for the caps of its day: `keys` name the lists that it is in, `source` is the task's cause."""

    keys: tuple[str, ...]
    source: str


async def charge(state: HandlerState, now: datetime, source: str, caps: Mapping[str, int]) -> Charge | str:
    """Count a task for each cap of this day (UTC), such as `{"user/7": 10}`; return the charge.

    Return the name of the first cap that is reached instead, with nothing counted. The same `source` counts once.
    """
    keys = {name: f"spent/{now:%Y-%m-%d}/{name}" for name in caps}
    done: list[str] = []
    for name, key in keys.items():
        if source in await state.get(key, []):
            continue
        if await state.append(key, source, max_items=caps[name], expires_in=KEPT) is None:
            await refund(state, Charge(keys=tuple(done), source=source))
            return name
        done.append(key)
    return Charge(keys=tuple(keys.values()), source=source)


async def refund(state: HandlerState, charged: Charge) -> None:
    """Take a charge back: the task was not accepted."""
    for key in charged.keys:
        await _remove(state, key, charged.source)


async def _remove(state: HandlerState, key: str, source: str) -> None:
    for _ in range(TRIES):  # another process may change the list meanwhile
        old = await state.get(key, [])
        if source not in old or await state.replace(key, old, [each for each in old if each != source]):
            return


async def may_refuse(state: HandlerState, who: str) -> bool:
    """Return whether a refusal may be sent to `who` now; it counts as sent."""
    return await state.add(f"refused/{who}", expires_in=REFUSED_EVERY)


async def remember_recent(state: HandlerState, key: str, item: object, *, kept: int, days: int = 7) -> None:
    """Put an item in front of a short list, such as the tasks of a user."""
    for _ in range(TRIES):
        old = await state.get(f"recent/{key}")
        new = [item, *(each for each in old or [] if each != item)][:kept]
        if await state.replace(f"recent/{key}", old, new, expires_in=timedelta(days=days)):
            return


async def recent(state: HandlerState, key: str) -> list[object]:
    """Return the items of a short list, the newest first."""
    found: Iterable[object] = await state.get(f"recent/{key}", [])
    return list(found)
