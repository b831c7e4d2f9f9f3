"""What attempts say about their destinations: updates circuits in the transaction that stores the attempts."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import structlog
from sqlalchemy import select

from service.domain.circuit import (
    PARKED_FOR,
    Circuit,
    after_answer,
    after_busy,
    after_failure,
    unknown_circuit,
)
from service.domain.operator_event import OperatorEventType
from service.domain.ports.circuits import DestinationHealth
from service.domain.ports.queues import AttemptResult
from service.domain.task import Json
from service.storage.async_engine import AsyncConnection
from service.storage.attempt_results import LeasedDelivery
from service.storage.bulk_writes import update_many
from service.storage.column_types import in_list
from service.storage.control_tables import circuits
from service.storage.delivery_tables import deliveries
from service.storage.dialects import insert
from service.storage.operator_events import report
from service.storage.task_rows import Values

Pair = tuple[LeasedDelivery, AttemptResult]

LOCKED = select(circuits).where(in_list(circuits.c.key, "keys")).order_by(circuits.c.key).with_for_update()

log = structlog.get_logger("boomerang.storage")


async def note_health(connection: AsyncConnection, pairs: Sequence[Pair]) -> bool:
    """Update the circuits of the destinations that attempts say something about; return whether one opens or closes.

    The deliveries are locked already, and updated for their attempts: circuits are always locked after them. Those that
    an open circuit lets wait are marked with it.
    """
    found = [(leased, result, result.health) for leased, result in pairs if result.health]
    if found:
        before = await _locked(connection, [health for _, _, health in found], found[0][1].finished_at)
        after = dict(before)
        for _, result, health in sorted(found, key=lambda each: each[1].finished_at):
            key = health.destination.key
            after[key] = _after(after[key], health, result)
        await save(connection, [circuit for key, circuit in after.items() if circuit != before[key]])
        for key, circuit in after.items():
            await report_change(connection, before[key], circuit)
    await _mark(connection, pairs, after if found else {})
    return bool(found) and any(before[key].state != after[key].state for key in after)


def _after(circuit: Circuit, health: DestinationHealth, result: AttemptResult) -> Circuit:
    at = result.finished_at
    if health.sign == "answered":
        return after_answer(circuit, at)
    if health.sign == "failed":
        circuit = after_failure(circuit, at, result.error, limits=health.limits, probe=health.probe)
    return after_busy(circuit, at, health.busy_until) if health.busy_until else circuit


async def _mark(connection: AsyncConnection, pairs: Sequence[Pair], after: dict[str, Circuit]) -> None:
    """Note the circuit of deliveries that wait now for an open one; remove that of those that no longer do.

    A probe that failed waits like the others, behind them.
    """
    rows: list[Values] = []
    for leased, result in pairs:
        if result.outcome != "retry":
            continue
        health = result.health
        circuit = after.get(health.destination.key) if health else None
        due_at = result.due_at or result.finished_at
        if health and circuit and circuit.state == "open" and health.sign == "failed":
            since = leased.waiting_since or result.finished_at
            due_at = result.finished_at + PARKED_FOR if health.probe else due_at
            rows.append({"id": leased.id, "circuit": circuit.key, "waiting_since": since, "due_at": due_at})
        elif leased.circuit is not None:
            rows.append({"id": leased.id, "circuit": None, "waiting_since": None, "due_at": due_at})
    if rows:
        await update_many(connection, deliveries, rows)


async def _locked(connection: AsyncConnection, found: Sequence[DestinationHealth], now: datetime) -> dict[str, Circuit]:
    """Return the circuits, locked in the order of their keys; unknown ones are created, as another process may do."""
    wanted = {each.destination.key: each.destination for each in found}
    failed = {each.destination.key for each in found if each.sign != "answered"}
    rows = (await connection.execute(LOCKED, {"keys": sorted(wanted)})).mappings().all()
    known = {row["key"]: Circuit(**row) for row in rows}
    if missing := sorted(failed - known.keys()):
        values = [asdict(unknown_circuit(wanted[key], now)) for key in missing]
        await connection.execute(insert(connection, circuits).on_conflict_do_nothing(), values)
        rows = (await connection.execute(LOCKED, {"keys": sorted(wanted)})).mappings().all()
        known = {row["key"]: Circuit(**row) for row in rows}
    return {key: known.get(key) or unknown_circuit(wanted[key], now) for key in sorted(wanted)}


async def save(connection: AsyncConnection, changed: Sequence[Circuit]) -> None:
    """Store changed circuits, which are locked."""
    if changed:
        await update_many(connection, circuits, [asdict(circuit) for circuit in changed])


async def report_change(connection: AsyncConnection, before: Circuit, after: Circuit) -> None:
    """Report that a circuit has opened or closed: `service.circuit_opened`, `service.circuit_closed`."""
    fields = {"handler": after.handler, "host": after.host, "client": after.client}
    condition, at = f"{after.key} {before.opened_at or after.opened_at}", after.changed_at
    if after.state == "open" and before.state != "open":
        log.warning("circuit opened", **fields, failures=after.failures, error=after.last_error)
        condition = f"{after.key} {after.opened_at}"
        data: Json = {**fields, "failures": after.failures, "error": after.last_error}
        await report(connection, OperatorEventType.CIRCUIT_OPENED, condition, data, at=at)
    elif before.state == "open" and after.state == "closed":
        seconds = (after.changed_at - (before.opened_at or after.changed_at)).total_seconds()
        log.warning("circuit closed", **fields, open_seconds=round(seconds, 1))
        closed: Json = {**fields, "open_seconds": round(seconds, 1)}
        await report(connection, OperatorEventType.CIRCUIT_CLOSED, condition, closed, at=at)
