"""Shares: how many places each client may take."""

from itertools import takewhile

import pytest

from service.domain.fair_share import FairShare


def _fill(shares: FairShare, client: str | None) -> int:
    return len(list(takewhile(lambda _: shares.take(client), range(100))))


@pytest.mark.parametrize(
    ("places", "got"), [(16, [8, 4, 2, 1, 1, 0]), (32, [16, 8, 4, 2, 1, 1]), (1, [1, 0]), (0, [0])]
)
def test_each_client_leaves_as_many_as_it_holds(places: int, got: list[int]) -> None:
    """The first gets half of the places, every next one half of the rest, down to the last one."""
    shares = FairShare(free=places)
    assert [_fill(shares, f"client {number}") for number in range(len(got))] == got


def test_what_is_nobodys_takes_whatever_is_free() -> None:
    """A delivery without a client's target is not held back."""
    shares = FairShare(free=16)
    assert [_fill(shares, client) for client in ("ada", None, "bob")] == [8, 8, 0]


def test_who_has_its_share_is_told() -> None:
    """Those that hold as many as are left free, and nobody else."""
    shares = FairShare(free=4)
    for client in ("ada", "ada", "bob"):
        assert shares.take(client)
    assert shares.served() == {"ada", "bob"}
    assert FairShare(free=4).served() == set()
