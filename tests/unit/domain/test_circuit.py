"""The circuit breaker of a destination: pure transitions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.domain.circuit import (
    COUNT_FOR,
    DOUBLED_PAUSE,
    FIRST_PAUSE,
    KEY_LENGTH,
    LONG_FAILURE,
    OPEN_SHARE,
    Circuit,
    CircuitLimits,
    after_answer,
    after_busy,
    after_failure,
    closed_manually,
    destination_of,
    unknown_circuit,
)

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NEW = unknown_circuit(destination_of("webhook", "ann", {"url": "https://Hooks.test./a"}), NOW)


def failed(circuit: Circuit, at: datetime, *, probe: bool = False, opens_after: int = 5) -> Circuit:
    """Return the circuit after one more failure."""
    return after_failure(circuit, at, "Retry: 500", limits=CircuitLimits(opens_after=opens_after), probe=probe)


def opened() -> Circuit:
    """Return a circuit that five failures have opened."""
    circuit = NEW
    for _ in range(5):
        circuit = failed(circuit, NOW)
    return circuit


def test_destination_is_a_host_of_a_client_or_the_handler() -> None:
    """The same host of another client is another destination; a name of a handler is never a host."""
    first = destination_of("webhook", "ann", {"url": "https://Hooks.test./a"})
    assert first == destination_of("webhook", "ann", {"url": "endpoint+https://hooks.test/b?c"})
    assert first.key != destination_of("webhook", "bob", {"url": "https://hooks.test/a"}).key
    assert destination_of("log", "ann", {}).key == destination_of("log", "bob", {"chat": 4}).key
    assert len(destination_of("webhook", "ann", {"url": f"https://{'x' * 5000}.test/"}).key) == KEY_LENGTH


def test_fifth_failure_in_a_row_opens() -> None:
    """An answer in between starts the count again."""
    circuit = NEW
    for _ in range(4):
        circuit = failed(circuit, NOW)
    assert not circuit.blocks(NOW)
    assert not failed(after_answer(circuit, NOW), NOW).blocks(NOW)
    last = failed(circuit, NOW + SECOND)
    assert (last.state, last.opened_at, last.retry_at) == ("open", NOW + SECOND, NOW + SECOND + FIRST_PAUSE)


def test_second_failure_after_a_minute_opens() -> None:
    """A destination with few deliveries has no five failures; but failures that are far apart are not consecutive."""
    once = failed(NEW, NOW)
    assert failed(once, NOW + LONG_FAILURE - SECOND).state == "failing"
    assert failed(once, NOW + LONG_FAILURE).state == "open"
    assert failed(once, NOW + COUNT_FOR).failures == 1


def test_handler_without_a_breaker_never_opens() -> None:
    """Its failures are counted."""
    circuit = NEW
    for number in range(50):
        circuit = failed(circuit, NOW + number * SECOND, opens_after=0)
    assert (circuit.state, circuit.failures) == ("failing", 50)


def test_pause_doubles_with_each_probe_up_to_five_minutes() -> None:
    """The failure of another attempt, which began before, lengthens nothing."""
    circuit, pauses = opened(), []
    assert failed(circuit, NOW + SECOND).retry_at == circuit.retry_at
    for _ in range(9):
        circuit = failed(circuit, NOW, probe=True)
        assert circuit.retry_at is not None
        pauses.append((circuit.retry_at - NOW).total_seconds())
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert DOUBLED_PAUSE.total_seconds() == 300


def test_pause_grows_with_the_outage_up_to_its_limit() -> None:
    """After an hour it is a twelfth of the time, so that a host that is down for a day gets some 80 probes."""
    circuit, at, probes = opened(), NOW, 0
    while at < NOW + timedelta(hours=26):
        assert circuit.retry_at is not None
        at, probes, before = circuit.retry_at, probes + 1, circuit.retry_at
        circuit = failed(circuit, at, probe=True)
        assert circuit.retry_at is not None
        assert circuit.retry_at - before <= max(DOUBLED_PAUSE, (at - NOW) / OPEN_SHARE, FIRST_PAUSE)
        assert circuit.retry_at - before <= CircuitLimits().max_pause
    assert 60 < probes < 90


def test_pause_between_probes_has_a_limit() -> None:
    """An operator may want short pauses only."""
    limits = CircuitLimits(max_pause=2 * SECOND)
    circuit = NEW
    for _ in range(7):
        circuit = after_failure(circuit, NOW, None, limits=limits, probe=circuit.state == "open")
        assert circuit.retry_at in {None, NOW + 2 * SECOND}
    assert circuit.probes == 2


def test_closed_manually_wakes_what_waits() -> None:
    """That of a destination that has asked to wait, too."""
    busy = after_busy(NEW, NOW, NOW + 9 * SECOND)
    for circuit in (opened(), busy):
        closed = closed_manually(circuit, NOW + SECOND)
        assert (closed.state, closed.waking, closed.closed_at, closed.retry_at) == ("closed", True, NOW + SECOND, None)


def test_first_answer_closes() -> None:
    """What waits becomes due; a failure right after it does not open it again."""
    closed = after_answer(opened(), NOW + SECOND)
    assert (closed.state, closed.waking, closed.closed_at, closed.failures) == ("closed", True, NOW + SECOND, 0)
    assert failed(closed, NOW + SECOND).waking
    assert not failed(closed, NOW + SECOND).blocks(NOW)


def test_busy_destination_gets_nothing_until_that_time() -> None:
    """It needs no probe; the longest wait counts, and an open circuit is probed later."""
    busy = after_busy(after_busy(NEW, NOW, NOW + 9 * SECOND), NOW, NOW + 5 * SECOND)
    assert busy.blocks(NOW + 8 * SECOND)
    assert not busy.blocks(NOW + 9 * SECOND)
    assert not after_busy(NEW, NOW, NOW + timedelta(days=9)).blocks(NOW + timedelta(days=1))
    still_open = after_busy(opened(), NOW, NOW + 60 * SECOND)
    assert (still_open.state, still_open.retry_at) == ("open", NOW + 60 * SECOND)


def test_waking_ends_when_it_opens_again() -> None:
    """What waits then waits for the next end."""
    circuit = replace(opened(), state="closed", waking=True, closed_at=NOW)
    for _ in range(5):
        circuit = failed(circuit, NOW)
    assert (circuit.state, circuit.waking) == ("open", False)
