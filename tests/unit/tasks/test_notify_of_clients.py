"""What `notify` of a client may name, and how its secrets are stored."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.errors import Conflict, InvalidParams
from service.domain.key_ring import KeyRing
from service.domain.task import Json, Task
from service.domain.task_update import TaskUpdate
from service.tasks.secret_sealer import SecretSealer
from tests.support.task_loop import Loop, open_loop, task_request

SECRET = "whsec_" + "c2VjcmV0" * 4
OWN: Json = {"handler": "webhook", "url": "https://example.org/hook", "secret": SECRET}


class NoSecrets:
    """A store whose secrets are all deleted."""

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return none of them."""
        assert ids
        return {}


def _limited(loop: Loop, *handlers: str) -> Loop:
    policy = replace(loop.task_service.policy, client_handlers=frozenset(handlers))
    loop.task_service.policy = replace(policy, handlers=frozenset({"webhook", "log", "crm"}))
    loop.task_service.sealer = SecretSealer(
        store=loop.store.sealed_secrets, keys=KeyRing(["signing-key-of-32-characters-no-1"]), new_id=loop.new_id
    )
    return loop


async def _accept(loop: Loop, *notify: Json, admin: bool = False) -> Task:
    task, _ = await loop.task_service.accept(task_request(notify=list(notify), admin=admin))
    return task


async def test_client_names_only_allowed_handlers(tmp_path: Path) -> None:
    """The message names only those, not the operator's; an admin names every loaded handler."""
    async with open_loop(tmp_path) as loop:
        _limited(loop, "webhook")
        with pytest.raises(InvalidParams) as refused:
            await _accept(loop, {"handler": "crm"}, {"handler": "webhook", "url": "https://example.org"})
        [fault] = refused.value.faults
        assert fault.loc == ("notify", 0, "handler")
        assert "log" not in fault.msg
        assert (await _accept(loop, {"handler": "crm"}, admin=True)).notify == ({"handler": "crm"},)


async def test_callback_url_needs_the_webhook_handler(tmp_path: Path) -> None:
    """It becomes a notify entry, and is refused where clients may not name that handler."""
    async with open_loop(tmp_path) as loop:
        _limited(loop, "log")
        request = task_request()
        assert isinstance(request.params, dict)
        request = replace(request, params=request.params | {"callback_url": "https://example.org/back"})
        with pytest.raises(InvalidParams, match="BOOMERANG_NOTIFY_HANDLERS"):
            await loop.task_service.accept(request)
        _limited(loop, "webhook")
        task, _ = await loop.task_service.accept(request)
        assert [entry["handler"] for entry in task.notify] == ["webhook"]


async def test_reserved_field_is_refused(tmp_path: Path) -> None:
    """A client cannot name the sealed secret of another task."""
    async with open_loop(tmp_path) as loop:
        _limited(loop, "webhook", "crm")
        for entry in ({"handler": "crm", "sealed_secret": "s1"}, {**OWN, "sealed_secret": "s1"}):
            with pytest.raises(InvalidParams) as refused:
                await _accept(loop, entry)
            assert [fault.loc[-1] for fault in refused.value.faults] == ["sealed_secret"]


async def test_secret_is_stored_sealed(tmp_path: Path) -> None:
    """Neither the task nor its deliveries hold it; equal entries are stored once."""
    async with open_loop(tmp_path) as loop:
        _limited(loop, "webhook")
        task = await _accept(loop, OWN, OWN)
        [entry] = task.notify
        assert SECRET not in str(vars(task))
        sealed = await loop.store.sealed_secrets.load([entry["sealed_secret"]])
        assert SECRET not in str(sealed)
        assert loop.task_service.sealer is not None
        assert await loop.task_service.sealer.open(entry) == OWN


async def test_resubmission_seals_the_secret_again(tmp_path: Path) -> None:
    """It has a row of its own, and is refused when the secret is deleted."""
    async with open_loop(tmp_path) as loop:
        _limited(loop, "webhook")
        task = await _accept(loop, OWN)
        await loop.recorder.add(TaskUpdate.cancel_queued(task.id))
        again = await loop.task_service.resubmit(task.id)
        assert again.notify[0]["sealed_secret"] != task.notify[0]["sealed_secret"]
        assert loop.task_service.sealer is not None
        assert await loop.task_service.sealer.open(again.notify[0]) == OWN
        other = await _accept(loop, OWN)
        await loop.recorder.add(TaskUpdate.cancel_queued(other.id))
        loop.task_service.sealer = replace(loop.task_service.sealer, store=NoSecrets())
        with pytest.raises(Conflict, match="submit a new task"):
            await loop.task_service.resubmit(other.id)
