"""The examples of `handlers/README.md` run as they are written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service import Handlers
from service.testing import HandlerTest, load_handlers

README = (Path(__file__).parents[3] / "handlers" / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BOT = next(block for block in BLOCKS if "A chat bot" in block)
USE = next(block for block in BLOCKS if "A test of the bot" in block)
SETTINGS = {"BOT_URL": "https://chat.example/send", "BOT_SECRET": "secret", "BOT_CHATS": "7", "BOT_A_DAY": "1"}
MESSAGE = {"id": 1, "chat": 7, "text": "a cat on a bicycle", "photo": "https://files.example/cat.png"}


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    """Return the handlers of the bot, from a file as an operator writes it."""
    (tmp_path / "bot.py").write_text(BOT)
    return load_handlers(tmp_path / "bot.py")


def test_bot_is_short() -> None:
    """The README promises less than sixty lines, empty ones included."""
    assert len(BOT.splitlines()) < 60


def test_example_of_a_test_passes(tmp_path: Path) -> None:
    """Both examples, pasted into files of an empty directory: a message becomes a video that is posted."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "bot.py").write_text(BOT)
    (tmp_path / "handlers" / "test_bot.py").write_text(USE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "handlers/test_bot.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert "1 passed" in done.stdout, done.stdout + done.stderr


async def test_bot_refuses_what_it_should(handlers: Handlers) -> None:
    """A wrong secret, a repeated message, a closed chat, and a second video of the day."""
    async with HandlerTest(handlers, settings=SETTINGS) as test:

        async def send(code: str = "secret", **changes: object) -> int:
            response = await test.request("POST", "/message", json=MESSAGE | changes, headers={"x-secret": code})
            await test.advance(1)
            return response.status_code

        assert await send("wrong") == 401
        assert [await send(), await send(), await send(id=2), await send(id=3, chat=8)] == [200] * 4
        assert len(await test.tasks()) == 1
        texts = [request.content.decode() for request in test.requests]
        assert [any(text in one for one in texts) for text in ("Enough for today.", "may not order videos")] == [
            True
        ] * 2


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_python(block: str) -> None:
    """Nothing in the document is out of date in its syntax."""
    wrapped = "async def example():\n" + "\n".join(f"    {line}" for line in block.splitlines())
    compile(wrapped if re.match(r"(    if|async with)", block) else block, "README.md", "exec", flags=0x2000)
