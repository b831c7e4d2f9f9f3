"""Reading a callback's body, which may have the shape of either provider whichever was asked."""

from service.domain.task import Fact
from service.providers.vidu.bodies import read_vidu
from service.providers.vtrix.bodies import read_vtrix


def read_fact(body: object) -> Fact:
    """Return what a parsed body of either provider says: `state` marks Vidu's, `status` Vtrix's; raises Unwell."""
    if isinstance(body, dict) and "state" in body:
        return read_vidu(body)
    return read_vtrix(body)
