"""A claim that parks deliveries beside what another process does to their circuit: none waits for a closed one."""

import asyncio
from dataclasses import asdict, replace

import pytest

from service.domain.circuit import Circuit, destination_of, unknown_circuit
from service.domain.ports.circuits import Block
from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Json
from service.storage import Store
from service.storage.control_tables import circuits
from tests.storage.builders import LEASE, MINUTE, NOW, add_deliveries
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session, updates_held

OPEN = replace(
    unknown_circuit(destination_of("log", "anna", {}), NOW), state="open", opened_at=NOW - MINUTE, retry_at=NOW
)


class Blocked:
    """The circuits of a process that knows one as open."""

    any = True

    def block(self, handler: str, client: str, target: Json, waiting_since: object) -> Block:  # noqa: ARG002 - as in Blocks
        """Block everything."""
        return Block(key=OPEN.key, until=NOW + 15 * MINUTE)


async def add_circuit(store: Store, circuit: Circuit = OPEN) -> None:
    """Store a circuit."""
    async with store._database.writing() as write:
        await write.connection.execute(circuits.insert().values(**asdict(circuit)))


async def claim(store: Store) -> list[DeliveryClaim]:
    """Claim due deliveries as a process that knows the circuit as open."""
    capacity = HandlerCapacity(names=("log",), slots=10)
    return await store.deliveries.claim([capacity], now=NOW, until=NOW + LEASE, blocks=Blocked())


async def test_stored_circuit_decides(store: Store) -> None:
    """Without one in the database nothing is parked; a stored one that is open parks."""
    await add_deliveries(store, "log")
    assert await claim(store) == []
    assert await store.circuits.probe(OPEN.key, now=NOW) is False
    await add_circuit(store)
    assert await claim(store) == []
    assert await store.circuits.probe(OPEN.key, now=NOW)
    [probe] = await claim(store)
    assert probe.probe


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_circuit_is_not_closed_for_nothing_while_a_claim_parks(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """Whoever looks for a delivery that waits, and could probe, waits for the claim and finds what it has parked."""
    other = open_another()
    await add_deliveries(store, "log")
    await add_circuit(store)
    async with updates_held(database, "deliveries", waiting=2):
        parking = asyncio.create_task(claim(store))
        async with other_session(database) as session:
            await session.until_waiting(1)
        probing = asyncio.create_task(other.circuits.probe(OPEN.key, now=NOW))
    assert await parking == []
    assert await probing
    [probe] = await claim(store)
    assert probe.probe


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_claim_does_not_wait_for_a_circuit(store: Store, database: EmptyDatabase) -> None:
    """A circuit that is changed at this moment leaves its deliveries to the next claim: claims wait for nothing."""
    await add_deliveries(store, "log")
    await add_circuit(store)
    async with other_session(database) as session:
        await session.connection.execute("SELECT key FROM circuits FOR UPDATE")
        assert await claim(store) == []
    await store.circuits.probe(OPEN.key, now=NOW)  # nothing waits: it is closed
    assert [each.state for each in await store.circuits.recent(now=NOW)] == ["closed"]
