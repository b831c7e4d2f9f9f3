"""Webhook secrets are sealed with the key that signs, and opened with every key."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from service.domain.errors import BadSetting, Conflict, Reject, StoreUnavailable
from service.domain.key_ring import KeyRing
from service.domain.task import Json, TaskId
from service.tasks.secret_sealer import SecretSealer

NEW, OLD, LOST = (f"signing-key-of-32-characters-no-{name}" for name in ("new", "old", "lost"))
SECRET = "whsec_" + "c2VjcmV0" * 4
ENTRY: Json = {"handler": "webhook", "url": "https://example.org/hook", "secret": SECRET}
PLAIN: Json = {"handler": "webhook", "url": "https://example.org/hook"}


class Rows:
    """Sealed secrets in memory."""

    def __init__(self) -> None:
        self.sealed: dict[str, str] = {}

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the rows with these ids."""
        return {one: self.sealed[one] for one in ids if one in self.sealed}


def _secrets(*keys: str) -> tuple[SecretSealer, Rows]:
    rows, numbers = Rows(), count(1)
    return SecretSealer(store=rows, keys=KeyRing(keys), new_id=lambda: f"s{next(numbers)}"), rows


def _stored(secrets: SecretSealer, rows: Rows, *entries: Json) -> list[Json]:
    stored, sealed = secrets.seal(entries, TaskId("t1"))
    rows.sealed |= {one.id: one.sealed for one in sealed}
    return list(stored)


async def test_sealed_secret_is_opened() -> None:
    """The row contains neither the secret nor a part of it, and two rows of one secret differ."""
    secrets, rows = _secrets(NEW)
    stored = _stored(secrets, rows, ENTRY, {**ENTRY, "url": "https://example.org/2"})
    assert not any("c2VjcmV0" in text or SECRET in text for text in [*rows.sealed.values(), repr(stored)])
    assert len(set(rows.sealed.values())) == 2
    assert await secrets.open(stored[0]) == ENTRY


async def test_target_without_a_sealed_secret_stays_as_it_is() -> None:
    """Also the plain secret of a row that the previous release wrote."""
    secrets, _ = _secrets(NEW)
    for target in ({}, PLAIN, ENTRY):
        assert await secrets.open(target) == target


async def test_secret_is_opened_after_a_rotation() -> None:
    """The new key seals, and the old one still opens what it sealed; a process with the old key first reads both."""
    before, rows = _secrets(OLD)
    [stored] = _stored(before, rows, ENTRY)
    for keys in ((NEW, OLD), (OLD, NEW)):
        after = replace(before, keys=KeyRing(keys))
        assert await after.open(stored) == ENTRY
    after = replace(before, keys=KeyRing((NEW, OLD)))
    [newer] = _stored(after, rows, ENTRY)
    assert await replace(before, keys=KeyRing((NEW,))).open(newer) == ENTRY


def test_secret_is_not_sealed_before_the_keys_are_registered() -> None:
    """The newest key may be one that no other process knows; entries without a secret need no key."""
    secrets, _ = _secrets(NEW, OLD)
    starting = replace(secrets, registered=lambda: False)
    with pytest.raises(StoreUnavailable):
        starting.seal([ENTRY], TaskId("t1"))
    assert starting.seal([PLAIN], TaskId("t1")) == ((PLAIN,), ())


async def test_lost_key_is_the_operators_fault() -> None:
    """The delivery is tried again, so that the key can be restored."""
    secrets, rows = _secrets(LOST)
    [stored] = _stored(secrets, rows, ENTRY)
    with pytest.raises(BadSetting, match="BOOMERANG_SECRET_KEYS"):
        await replace(secrets, keys=KeyRing((NEW, OLD))).open(stored)


async def test_previous_release_tries_sealed_fields_again() -> None:
    """It opens the text of the row as it is: that must be no dead letter, which a rejected entry would be."""
    secrets, rows = _secrets(OLD)
    [stored] = _stored(secrets, rows, {"handler": "webhook", "url": "https://example.org/hook?token=topsecret"})
    [sealed] = rows.sealed.values()
    with pytest.raises(BadSetting):
        secrets.open_text(sealed)
    newer = replace(secrets, keys=KeyRing((NEW, OLD)))
    again = newer.seal_text_again(sealed)
    assert again is not None
    assert newer.seal_text_again(again) is None
    rows.sealed["s1"] = again
    opened = await replace(secrets, keys=KeyRing((NEW,))).open(stored)
    assert opened == {"handler": "webhook", "url": "https://example.org/hook?token=topsecret"}


async def test_deleted_secret_is_a_dead_letter() -> None:
    """Nothing is signed with another secret instead."""
    secrets, rows = _secrets(NEW)
    [stored] = _stored(secrets, rows, ENTRY)
    rows.sealed.clear()
    with pytest.raises(Reject, match="secret"):
        await secrets.open(stored)


async def test_resubmission_has_its_own_rows() -> None:
    """They outlive those of the first task; a plain secret of an earlier release is sealed."""
    secrets, rows = _secrets(NEW)
    stored = _stored(secrets, rows, ENTRY, PLAIN)
    again, sealed = await secrets.seal_again(stored, TaskId("t2"))
    assert [(one.id, one.task_id) for one in sealed] == [("s2", "t2")]
    assert (again[0]["sealed_secret"], again[1]) == ("s2", PLAIN)
    again, sealed = await secrets.seal_again([ENTRY], TaskId("t2"))
    assert "secret" not in again[0]
    assert len(sealed) == 1


async def test_resubmission_without_its_secret_is_refused() -> None:
    """After RETENTION a new task has to bring it."""
    secrets, rows = _secrets(NEW)
    stored = _stored(secrets, rows, ENTRY)
    rows.sealed.clear()
    with pytest.raises(Conflict, match="submit a new task"):
        await secrets.seal_again(stored, TaskId("t2"))
