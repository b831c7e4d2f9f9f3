"""When a progress message is edited: only when its text changes, and not too often. Shared by chat handlers."""

from datetime import timedelta

from service import HandlerState, Reject

EVERY = timedelta(seconds=4)
"""Least time between two edits in one chat: platforms allow about 20 a minute, final ones included."""

KEPT = timedelta(days=7)


class MessageGone(Reject):
    """The message to edit or to delete does not exist any more, or can no longer be changed."""


async def may_show(state: HandlerState, *, chat: str, message: str, text: str, final: bool = False) -> bool:
    """Return whether a progress message is to be edited now; a final text waits for nothing."""
    if await state.get(f"shown/{message}") == text:
        return False
    return final or await state.add(f"shown-in/{chat}", expires_in=EVERY)


async def was_shown(state: HandlerState, *, message: str, text: str) -> None:
    """Record the text that a progress message has now."""
    await state.set(f"shown/{message}", text, expires_in=KEPT)


async def pause(state: HandlerState, *, chat: str, after: timedelta) -> None:
    """Edit no progress message of a chat for a while: its platform asked for it."""
    await state.set(f"shown-in/{chat}", value=True, expires_in=after)
