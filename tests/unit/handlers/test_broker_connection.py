"""The port of the brokers: one connection for all messages, replaced after a failure, with limited times."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from handlers import _broker_connection
from handlers._broker_connection import Publisher
from service import Reject, Retry


class FakeConnection:
    """A connection that does what `act` does."""

    def __init__(self, act: Callable[[str], Any]) -> None:
        self.alive, self.closed, self._act = True, False, act
        self.messages: list[str] = []

    async def publish(self, message: Any) -> None:
        """Publish."""
        self.messages.append(message)
        done = self._act(message)
        if asyncio.isfuture(done):
            await done
        elif isinstance(done, Exception):
            raise done

    async def close(self) -> None:
        """Close."""
        self.closed = True


class FakeBroker:
    """Opens connections, after as many errors as are given."""

    def __init__(self, *errors: Exception, act: Callable[[str], Any] = lambda _: None) -> None:
        self.errors, self.act = [*errors], act
        self.connections: list[FakeConnection] = []
        self.publisher = Publisher("Fake", self.connect, (LookupError, OSError))

    async def connect(self) -> FakeConnection:
        """Open a connection."""
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.connections.append(FakeConnection(self.act))
        return self.connections[-1]

    async def publish(self, message: Any = "m") -> None:
        """Publish a message."""
        await self.publisher.publish(message)


async def test_one_connection_for_messages_at_the_same_time() -> None:
    """The first messages wait for the same connection; the end closes it."""
    broker = FakeBroker()
    await asyncio.gather(*(broker.publish() for _ in range(5)))
    (connection,) = broker.connections
    assert (len(connection.messages), connection.closed) == (5, False)
    await broker.publisher.close()
    assert connection.closed


async def test_connection_that_cannot_be_opened() -> None:
    """Every message that waits is tried again, with the reason; the next one opens a connection."""
    broker = FakeBroker(ConnectionRefusedError("refused"))
    outcomes = await asyncio.gather(*(broker.publish() for _ in range(3)), return_exceptions=True)
    assert {(type(each), str(each)) for each in outcomes} == {
        (Retry, "Fake cannot be reached: ConnectionRefusedError: refused")
    }
    await broker.publish()
    assert len(broker.connections) == 1


async def test_connection_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a connection is limited."""
    monkeypatch.setattr(_broker_connection, "CONNECT_TIMEOUT", 0.02)
    publisher = Publisher("Fake", lambda: asyncio.get_running_loop().create_future(), (OSError,))
    with pytest.raises(Retry, match=r"no answer within 0\.02 s"):
        await publisher.publish("m")  # type: ignore[arg-type] # a fake connection takes any message


async def test_message_that_waits_does_not_end_the_opening() -> None:
    """An attempt that is canceled while it waits for the connection leaves it to the others."""
    broker = FakeBroker()
    canceled = asyncio.create_task(broker.publish())
    other = asyncio.create_task(broker.publish())
    await asyncio.sleep(0)
    canceled.cancel()
    await other
    assert len(broker.connections) == 1


@pytest.mark.parametrize("error", [LookupError("gone"), OSError("reset")])
async def test_broken_connection_is_replaced(error: Exception) -> None:
    """An error of the library is the broker's fault, and the next message uses another connection."""
    broker = FakeBroker(act=lambda message: error if message == "bad" else None)
    with pytest.raises(Retry, match="Fake did not confirm the message: "):
        await broker.publish("bad")
    await broker.publish()
    first, second = broker.connections
    await asyncio.sleep(0)
    assert (first.closed, second.closed) == (True, False)


@pytest.mark.parametrize("error", [Retry("no stream"), Reject("too large")])
async def test_refused_message_keeps_the_connection(error: Exception) -> None:
    """What the broker answered says nothing about the connection."""
    broker = FakeBroker(act=lambda message: error if message == "bad" else None)
    with pytest.raises(type(error), match=str(error)):
        await broker.publish("bad")
    await broker.publish()
    assert len(broker.connections) == 1


async def test_mistake_in_an_adapter_stays_an_error() -> None:
    """A mistake in an adapter is reported as what it is."""
    broker = FakeBroker(act=lambda _: AttributeError("a mistake"))
    with pytest.raises(AttributeError):
        await broker.publish()


async def test_closed_channel_is_replaced_after_a_refusal() -> None:
    """A connection that is not alive after an answer is not used again."""
    broker = FakeBroker()

    def refuse(_: str) -> Exception:
        broker.connections[0].alive = False
        return Retry("no exchange")

    broker.act = refuse
    with pytest.raises(Retry, match="no exchange"):
        await broker.publish()
    broker.act = lambda _: None
    await broker.publish()
    assert [connection.closed for connection in broker.connections] == [True, False]


async def test_replaced_connection_stays_open_for_its_other_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message without a confirm replaces the connection; another one that waits on it may still be confirmed."""
    confirms = {"slow": asyncio.get_running_loop().create_future(), "never": asyncio.get_running_loop().create_future()}
    broker = FakeBroker(act=confirms.get)
    slow = asyncio.create_task(broker.publish("slow"))
    await asyncio.sleep(0.01)
    monkeypatch.setattr(_broker_connection, "PUBLISH_TIMEOUT", 0.02)
    with pytest.raises(Retry, match=r"did not confirm the message within 0\.02 s"):
        await broker.publish("never")
    assert [connection.closed for connection in broker.connections] == [False]
    confirms["slow"].set_result(None)
    await slow
    await asyncio.sleep(0.01)
    assert broker.connections[0].closed


async def test_closing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose end takes too long, or fails, keeps no process."""
    monkeypatch.setattr(_broker_connection, "CLOSE_TIMEOUT", 0.02)
    broker = FakeBroker()
    await broker.publish()
    monkeypatch.setattr(broker.connections[0], "close", asyncio.Event().wait)
    async with asyncio.timeout(5):
        await broker.publisher.close()
