"""The command that prints the transcripts, for every chat and journey."""

import pytest

from tests.unit.handlers.__main__ import CHATS, JOURNEYS, transcript

ENDS = {
    "success": ("delete", "[file] a cat jumps"),
    "refused user": ("operator of the bot:",),
    "invalid request": ("send the command again.",),
    "failure of the provider": ("Task ",),
    "task longer than the token of its command": ("delete",),
}


@pytest.mark.slow
@pytest.mark.parametrize("journey", JOURNEYS)
@pytest.mark.parametrize("chat", CHATS)
async def test_journey_ends_as_it_should(chat: str, journey: str) -> None:
    """The last line is the end that a person reads."""
    lines = await transcript(chat, journey)
    assert lines[0].startswith("user: ")
    assert any(end in lines[-1] for end in ENDS[journey]), lines[-1]
