"""Attempts of one client to one host that fails back off together."""

from datetime import timedelta

import pytest

from service.deliveries.failing_hosts import MAX_HOSTS, MAX_PAUSE, TURN, FailingHosts
from service.deliveries.handler_api import Event, Tools
from service.domain.errors import Reject, Retry
from tests.support.delivery_builders import NOW, DispatcherSetup, dispatcher_setup, handler, tools

KEY = ("ann", "hooks.test")
TIMEOUT = timedelta(seconds=15)
SECOND = timedelta(seconds=1)


def test_attempts_wait_for_the_next_one_of_the_failed_delivery() -> None:
    """Until then no other attempt is made; a success ends the pause."""
    hosts = FailingHosts()
    assert hosts.pause(KEY, NOW, TIMEOUT) is None
    hosts.failed(KEY, NOW, NOW + 30 * SECOND)
    assert hosts.pause(KEY, NOW + 29 * SECOND, TIMEOUT) == NOW + 30 * SECOND
    assert hosts.pause(("bob", "hooks.test"), NOW, TIMEOUT) is None
    assert hosts.pause(("ann", "other.test"), NOW, TIMEOUT) is None
    hosts.answered(KEY)
    assert hosts.pause(KEY, NOW + 29 * SECOND, TIMEOUT) is None


def test_after_the_pause_one_attempt_is_made() -> None:
    """The others wait for its result, at most for its timeout."""
    hosts = FailingHosts()
    hosts.failed(KEY, NOW, NOW + SECOND)
    assert hosts.pause(KEY, NOW + SECOND, TIMEOUT) is None
    assert hosts.pause(KEY, NOW + SECOND, TIMEOUT) == NOW + SECOND + TIMEOUT
    assert hosts.pause(KEY, NOW + SECOND + TIMEOUT, TIMEOUT) is None


def test_pause_is_bounded() -> None:
    """A new delivery to a host that is back waits at most ten minutes."""
    hosts = FailingHosts()
    hosts.failed(KEY, NOW, NOW + timedelta(hours=16))
    assert hosts.pause(KEY, NOW, TIMEOUT) == NOW + MAX_PAUSE


def test_pause_ends_when_the_clock_jumps_back() -> None:
    """A pause longer than any is from a clock that was wrong."""
    hosts = FailingHosts()
    hosts.failed(KEY, NOW, NOW + MAX_PAUSE)
    assert hosts.pause(KEY, NOW - timedelta(hours=1), TIMEOUT) is None


def test_after_the_pause_another_address_has_the_first_turn() -> None:
    """A path that always fails gives way to the others at its host, if any has waited; it waits for TURN."""
    hosts = FailingHosts()
    hosts.failed(KEY, NOW, NOW + SECOND, 1)
    assert hosts.pause(KEY, NOW, TIMEOUT, 2) == NOW + SECOND
    assert hosts.pause(KEY, NOW + SECOND, TIMEOUT, 1) == NOW + SECOND + TURN
    assert hosts.pause(KEY, NOW + SECOND, TIMEOUT, 2) is None
    hosts.failed(KEY, NOW + SECOND, NOW + 2 * SECOND, 2)
    assert hosts.pause(KEY, NOW + 2 * SECOND, TIMEOUT, 2) is None  # nobody else has waited


def test_memory_is_bounded() -> None:
    """A client with many hosts makes the process hold a bounded number of them."""
    hosts = FailingHosts()
    for number in range(MAX_HOSTS + 5):
        hosts.failed(("ann", f"h{number}.test"), NOW, NOW)
    assert len(hosts._pauses) == MAX_HOSTS


# ── with the dispatcher ──────────────────────────────────────────────────────


class Host:
    """A handler whose requests fail with `error` as long as it is set; `requests` counts them."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.requests = 0

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Make one request."""
        assert event.id
        assert tools.message_id
        self.requests += 1
        if self.error:
            raise self.error


def _setup(host: Host, count: int, *, client: str = "ada", hosts: int = 1) -> DispatcherSetup:
    async def handle(event: Event, tools: Tools) -> None:
        await host(event, tools)

    setup = dispatcher_setup(handler("webhook", handle, concurrency=1))
    _put(setup, count, client=client, hosts=hosts)
    return setup


def _put(setup: DispatcherSetup, count: int, *, client: str = "ada", hosts: int = 1) -> None:
    assert client
    for number in range(count):
        url = f"https://HOOKS{number % hosts}.test/{number}"
        setup.queue.put("webhook", target={"handler": "webhook", "url": url})


async def _run(setup: DispatcherSetup, *, seconds: int) -> None:
    for _ in range(seconds):
        while await setup.run_until_idle():
            pass
        setup.clock.at += SECOND


async def test_deliveries_to_a_failing_host_share_its_attempts() -> None:
    """Each is sent once at most beside the shared attempts: 20 deliveries and 3 attempts make 22 requests, not 60."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 20)
    await _run(setup, seconds=60)
    assert {row.status for row in setup.queue.rows.values()} == {"dead"}
    assert host.requests <= 20 + 2
    postponed = [result for result in setup.queue.results if (result.error or "").startswith("Postponed")]
    assert len(postponed) + host.requests == 60


async def test_path_that_does_not_exist_does_not_stop_the_others() -> None:
    """A client's dead path fails again and again, with new deliveries too; those of another path soon arrive."""
    sent: list[str] = []

    async def handle(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.target is not None
        sent.append(str(tools.target["url"]))
        if "dead" in sent[-1]:
            raise Retry("the receiver answered 404")

    schedule = tuple(timedelta(seconds=seconds) for seconds in (0, 2, 4, 8, 15, 30, 60, 90, 120))
    setup = dispatcher_setup(handler("webhook", handle), schedule=schedule)
    setup.dispatcher._attempts.tools = lambda claim, _handler: tools(target=claim.target)
    for path in ("dead", "good", "dead", "good"):
        setup.queue.put("webhook", target={"handler": "webhook", "url": f"https://hooks.test/{path}"})
        await _run(setup, seconds=5)
    await _run(setup, seconds=20)
    assert sent.count("https://hooks.test/good") == 2


async def test_every_delivery_is_sent_before_it_is_a_dead_letter() -> None:
    """The last attempt of a delivery is always made: a single bad path makes no dead letter of the others."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 5)
    await _run(setup, seconds=60)
    last = {result.delivery_id: result for result in setup.queue.results}
    assert all("answered 500" in (result.error or "") for result in last.values())


async def test_host_that_is_back_gets_everything() -> None:
    """After a success nothing waits for the host any more."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 5)
    await _run(setup, seconds=2)
    host.error = None
    await _run(setup, seconds=40)
    assert {row.status for row in setup.queue.rows.values()} == {"delivered"}


@pytest.mark.parametrize("error", [Reject("the receiver answered 410"), KeyError("a bug of the handler"), None])
async def test_only_failures_of_the_host_count(error: Exception | None) -> None:
    """Neither a rejection nor an error of the handler says that the host fails."""
    host = Host(error)
    setup = _setup(host, 5)
    await _run(setup, seconds=1)
    assert host.requests == 5


async def test_other_hosts_are_not_delayed() -> None:
    """Each host has its own pause."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 6, hosts=3)
    await _run(setup, seconds=1)
    assert host.requests == 3


async def test_deliveries_without_a_target_are_not_delayed() -> None:
    """Those of the operator follow their own schedule."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 0)
    for _ in range(5):
        setup.queue.put("webhook")
    await _run(setup, seconds=1)
    assert host.requests == 5


async def test_manual_attempt_is_made_although_the_host_fails() -> None:
    """A replay of one delivery is no "Postponed": the person knows that the receiver works again."""
    host = Host(Retry("the receiver answered 500"))
    setup = _setup(host, 1)
    await _run(setup, seconds=1)
    host.error = None
    url = "https://hooks0.test/7"
    waiting, manual = (
        setup.queue.put("webhook", target={"handler": "webhook", "url": f"{url}{manual}"}, manual=manual)
        for manual in (False, True)
    )
    await _run(setup, seconds=1)
    outcomes = {result.delivery_id: result.outcome for result in setup.queue.results}
    assert (outcomes[waiting], outcomes[manual]) == ("retry", "delivered")
    assert host.requests == 2
