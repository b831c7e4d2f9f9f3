"""Reads a callback's body. Either provider's shape may come, whichever provider is configured."""

from service.domain.task import Fact
from service.providers.vidu.bodies import read_vidu
from service.providers.vtrix.bodies import read_vtrix


def read_fact(body: object) -> Fact:
    """Return the fact in a parsed body; `state` marks Vidu's shape, `status` Vtrix's. Raises ProviderUnavailable."""
    if isinstance(body, dict) and "state" in body:
        return read_vidu(body)
    return read_vtrix(body)
