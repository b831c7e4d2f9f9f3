"""What the limits leave for further submissions."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.domain.fair_share import choose_in_turn
from service.domain.submission_limits import ClientLimit, Limits, LimitUsage


def test_exception_of_a_client() -> None:
    """An exception replaces the limit of one client, also by none."""
    limit = ClientLimit(default=5, exceptions={"bot": 20, "ops": None})
    assert [limit.of(client) for client in ("ann", "bot", "ops")] == [5, 20, None]
    assert ClientLimit(exceptions={"bot": 1}).limits_anyone
    assert not ClientLimit(exceptions={"bot": None}).limits_anyone


def test_what_has_to_be_counted() -> None:
    """Only what some limit needs is counted."""
    assert not Limits().any
    assert Limits(client_rate=ClientLimit(exceptions={"bot": 1})).counts_submissions
    assert Limits(client_budget=ClientLimit(default=1)).counts_dollars
    assert Limits(client_max_in_flight=ClientLimit(default=1)).counts_in_flight


def test_sum_of_binary_fractions_fits_exactly() -> None:
    """So many tasks of 0.1 dollars fit into a budget as it has tenths, although their sum is not exact."""
    for number in range(1, 30):
        used = LimitUsage(limits=Limits(budget=round(0.1 * number, 1)), known_prices={"short": 0.1})
        assert sum(used.take("ann", "short") for _ in range(40)) == number


def test_limit_of_all_is_named_before_that_of_a_client() -> None:
    """While nothing can be submitted at all, the note names the common limit."""
    limits = Limits(max_in_flight=1, client_max_in_flight=ClientLimit(default=1))
    used = LimitUsage(limits=limits, in_flight=Counter(ann=1))
    assert used.obstacle("ann", "short") == "max_in_flight"
    assert used.full() == "max_in_flight"


queues = st.lists(st.lists(st.integers(), max_size=6), max_size=6)


@given(queues, st.integers(min_value=0, max_value=20))
def test_turns_are_even(given_queues: list[list[int]], limit: int) -> None:
    """Of any queues, as much is taken as the limit allows, and none gets two more than another that still waits."""
    items = [[(number, each) for each in range(len(queue))] for number, queue in enumerate(given_queues)]
    chosen = choose_in_turn(items, lambda _: True, limit)
    assert len(chosen) == min(limit, sum(map(len, items)))
    counts = Counter(number for number, _ in chosen)
    waiting = [number for number, queue in enumerate(items) if len(queue) > counts[number]]
    assert all(counts[number] >= max(counts.values(), default=0) - 1 for number in waiting)
    for number in counts:
        assert [each for owner, each in chosen if owner == number] == list(range(counts[number]))


def test_refused_queue_gets_no_further_turn() -> None:
    """The order within a queue is kept: behind a refused item nothing is taken."""
    assert choose_in_turn([[9, 1], [2, 3]], lambda item: item < 5, 9) == [2, 3]


def test_price_above_the_whole_budget_is_named_with_its_remedy() -> None:
    """Such a task would wait every day, so the note does not speak of the rest of this day."""
    usage = LimitUsage(limits=Limits(budget=10), known_prices={"model/5/720p": 76.16})
    note = usage.note("any", "model/5/720p")
    assert note == (
        "waits: BUDGET of 10 dollars a day is too small for any such task, which counts as 76.16, its dearest reported"
        " cost; if that cost was wrong, lower BUDGET_EACH until it is over 100 times of it"
    )
    assert "rest of the day's BUDGET" in (
        LimitUsage(limits=Limits(budget=10), spent={"any": 9.5}).note("any", "m/5") or ""
    )
