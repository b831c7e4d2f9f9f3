"""Reads a callback's body. Either provider's shape may come, whichever provider is configured."""

from collections.abc import Callable
from functools import partial

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact
from service.providers.answer import DEFAULT_READING, Reading
from service.providers.task_bodies import TaskShape
from service.providers.vidu.bodies import VIDU_TASK
from service.providers.vtrix.bodies import VTRIX_TASK


def read_fact(body: object, reading: Reading = DEFAULT_READING) -> Fact:
    """Return the fact in a parsed body; `state` marks Vidu's shape, `status` Vtrix's. Raises ProviderUnavailable.

    An unknown status word raises as well: it may be an end, so that the task has to be polled.
    """
    fact = _shape(body).read(body, reading)
    if fact.word:
        raise ProviderUnavailable(f"unknown status of the provider: {fact.word}")
    return fact


def callback_reader(base_url: str, key: str | None) -> Callable[[object], Fact]:
    """Return `read_fact` for relative addresses at `base_url`, and with the provider's `key` masked in texts."""
    return partial(read_fact, reading=Reading(base_url=base_url.rstrip("/"), key=key or ""))


def _shape(body: object) -> TaskShape:
    if isinstance(body, dict) and "status" in body and "state" not in body:
        return VTRIX_TASK
    return VIDU_TASK if VIDU_TASK.answer(body).get("state") is not None else VTRIX_TASK
