"""A signing key can be replaced without losing what it sealed: secrets are sealed again with the new one."""

from datetime import timedelta
from itertools import count

import pytest

from service.domain.errors import Conflict
from service.domain.key_ring import KeyRing
from service.domain.task import Json
from service.storage import Store
from service.tasks import secret_resealing
from service.tasks.endpoints import EndpointChanges
from service.tasks.secret_resealing import SecretResealing
from service.tasks.secret_sealer import SecretSealer
from tests.storage.builders import a_task
from tests.support.delivery_builders import ManualClock
from tests.support.endpoint_builders import KEY, SECRET, endpoint_use_cases

NEW = "n" * 32
MINUTE = timedelta(minutes=1)


def resealing(store: Store, clock: ManualClock, *keys: str) -> SecretResealing:
    """Return the job of a process with these keys."""
    numbers, known = count(1), KeyRing(keys)
    secrets = SecretSealer(store=store.sealed_secrets, keys=known, new_id=lambda: f"s{next(numbers)}")
    endpoints = endpoint_use_cases(store, clock, keys=known).service
    return SecretResealing(endpoints=endpoints, rows=store.sealed_secrets, secrets=secrets, clock=clock)


async def tasks_with_secrets(store: Store, clock: ManualClock, number: int) -> list[Json]:
    """Store tasks whose webhooks have a secret that the old key seals; return their entries as they are stored."""
    old, entries = resealing(store, clock, KEY).secrets, []
    for each in range(number):
        task = a_task(f"t{each}")
        [entry], rows = old.seal([{"handler": "webhook", "url": "https://a.example/", "secret": SECRET}], task.id)
        await store.intake.add(task, [], None, rows)
        entries.append(entry)
    return entries


async def test_secrets_of_entries_outlive_the_key_that_sealed_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process with both keys goes through all rows, in parts; then the old key can be removed."""
    monkeypatch.setattr(secret_resealing, "AT_ONCE", 2)
    clock = ManualClock()
    entries = await tasks_with_secrets(store, clock, 5)
    both = resealing(store, clock, NEW, KEY)
    assert [await both.run() for _ in range(4)] == [2, 2, 1, 0]
    alone = resealing(store, clock, NEW).secrets
    assert [(await alone.open(entry))["secret"] for entry in entries] == [SECRET] * 5


async def test_what_a_late_process_seals_is_found(store: Store) -> None:
    """For a minute after the selection of a key another process may still seal with the old one."""
    clock = ManualClock()
    both = resealing(store, clock, NEW, KEY)
    assert await both.run() == 0
    [entry] = await tasks_with_secrets(store, clock, 1)
    clock.at += 2 * MINUTE
    assert [await both.run() for _ in range(2)] == [1, 0]
    assert (await resealing(store, clock, NEW).secrets.open(entry))["secret"] == SECRET


async def test_finished_and_single_key_processes_read_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are not read for ever, and not at all where nothing could be opened."""
    clock = ManualClock()
    both = resealing(store, clock, NEW, KEY)
    await both.run()
    clock.at += 2 * MINUTE
    await both.run()
    await both.run()
    monkeypatch.setattr(type(store.sealed_secrets), "page", None)
    assert await both.run() == 0
    assert await resealing(store, clock, NEW).run() == 0


async def test_endpoint_of_a_lost_key_names_the_fix(store: Store) -> None:
    """Its secret can be neither replaced nor kept: no internal error, and the log says it once."""
    clock = ManualClock()
    endpoint = await endpoint_use_cases(store, clock).create()
    alone = resealing(store, clock, NEW)
    assert await alone.run() == 0
    with pytest.raises(Conflict, match="BOOMERANG_SECRET_KEYS lacks"):
        await alone.endpoints.rotate(endpoint, None, MINUTE)
    with pytest.raises(Conflict, match="make it anew"):
        await alone.endpoints.change(endpoint, EndpointChanges(given={"headers": {"X-A": "1"}}))
    await alone.endpoints.change(endpoint, EndpointChanges(given={"paused": True}))
