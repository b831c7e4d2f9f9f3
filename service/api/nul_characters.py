"""The character U+0000 in the body of a request: no database stores it."""

from collections.abc import Iterator
from itertools import islice

from service.domain.errors import Fault
from service.domain.task import Json

MAX_FAULTS = 100  # of each kind
NUL_ESCAPE = b"\\u0000"


def may_have_nul(body: bytes) -> bool:
    """Return whether a JSON text may contain the character U+0000."""
    return b"\\" in body and NUL_ESCAPE in body  # the first test is fast


def nul_faults(data: Json) -> list[Fault]:
    """Return a fault for each text in `data` that contains U+0000, at most MAX_FAULTS."""
    return list(islice(_nul_faults(data, ()), MAX_FAULTS))


def _nul_faults(value: object, loc: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, str) and "\0" in value:
        yield Fault(loc=loc, msg="must not contain the character U+0000")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nul_faults(inner, (*loc, index))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _nul_faults(name, loc)
            yield from _nul_faults(inner, (*loc, name.replace("\0", "?")))
