"""Fair shares: how many slots each client may take."""

from itertools import takewhile

import pytest

from service.domain.fair_share import FairShare


def _fill(shares: FairShare, client: str | None) -> int:
    return len(list(takewhile(lambda _: shares.take(client), range(100))))


@pytest.mark.parametrize(
    ("free", "taken"), [(16, [8, 4, 2, 1, 1, 0]), (32, [16, 8, 4, 2, 1, 1]), (1, [1, 0]), (0, [0])]
)
def test_each_client_leaves_as_many_slots_as_it_holds(free: int, taken: list[int]) -> None:
    """The first client gets half of the slots, each next one half of the rest, down to the last slot."""
    shares = FairShare(free=free)
    assert [_fill(shares, f"client {number}") for number in range(len(taken))] == taken


def test_delivery_without_target_takes_any_free_slot() -> None:
    """A delivery without a client's target has no limit."""
    shares = FairShare(free=16)
    assert [_fill(shares, client) for client in ("ada", None, "bob")] == [8, 8, 0]


def test_served_are_the_clients_with_their_share() -> None:
    """Clients that hold as many slots as are free are served; others are not."""
    shares = FairShare(free=4)
    for client in ("ada", "ada", "bob"):
        assert shares.take(client)
    assert shares.served() == {"ada", "bob"}
    assert FairShare(free=4).served() == set()
