"""Endpoints: health, disabling, secrets and their rotation."""

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.endpoint import (
    DISABLE_AFTER,
    MAX_FAILURE_GAP,
    MIN_FAILURES,
    RECENT,
    EndpointAttempt,
    EndpointHealth,
    EndpointMatch,
    after_attempt,
    disabled_reason,
    endpoint_target,
)
from service.domain.endpoint_secrets import EndpointSecrets
from service.domain.errors import Conflict
from service.domain.event_routing import Subscription
from tests.support.endpoint_builders import OTHER_SECRET, SECRET, URL

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def _failures(*times: datetime, status: int | None = 500) -> tuple[EndpointHealth, list[str | None]]:
    health, reasons = EndpointHealth(), list[str | None]()
    for at in times:
        attempt = EndpointAttempt(at=at, error="no", status=status)
        health = after_attempt(health, attempt)
        reasons.append(disabled_reason(health, attempt))
    return health, reasons


def test_five_days_of_failures_disable() -> None:
    """Not a moment before, and not with few attempts."""
    times = [NOW + n * DISABLE_AFTER / 20 for n in range(21)]
    assert _failures(*times)[1] == [None] * 20 + ["failing"]
    few = [NOW + n * DISABLE_AFTER / (MIN_FAILURES - 2) for n in range(MIN_FAILURES - 1)]
    assert _failures(*few)[1][-1] is None


def test_long_pause_between_failures_starts_anew() -> None:
    """Nothing was tried in the pause, so nothing says that it failed then."""
    health, _ = _failures(NOW, NOW + HOUR, NOW + HOUR + MAX_FAILURE_GAP + HOUR)
    assert (health.failing_since, health.consecutive_failures) == (NOW + HOUR + MAX_FAILURE_GAP + HOUR, 3)


def test_clock_that_goes_back_disables_nothing() -> None:
    """Failures whose times go backwards are no days of failures."""
    health, reasons = _failures(*[NOW - n * HOUR for n in range(200)])
    assert set(reasons) == {None}
    assert health.consecutive_failures == 200


def test_few_outcomes_are_remembered() -> None:
    """The health of an endpoint does not grow."""
    assert len(_failures(*[NOW] * (RECENT + 50))[0].recent) == RECENT


@pytest.mark.parametrize(
    ("url", "host"), [(URL, "hooks.example.org"), ("http://[2001:db8::1]:8080/x", "[2001:db8::1]")]
)
def test_stored_target_names_the_host_alone(url: str, host: str) -> None:
    """The path of an address may be secret; the previous release refuses to dial the scheme, and tries again."""
    assert endpoint_target("ep_1", url) == {
        "handler": "webhook",
        "endpoint": "ep_1",
        "url": f"endpoint+https://{host}",
    }


def test_lane_stays_when_the_address_changes() -> None:
    """Events of one task stay in order over a change of the address, and endpoints have different lanes."""
    lanes = {EndpointMatch(id="ep_1", client="c", url=url).route().lane_key for url in (URL, "https://new.example/")}
    assert len(lanes) == 1
    assert EndpointMatch(id="ep_2", client="c", url=URL).route().lane_key not in lanes


def test_only_events_of_the_handler() -> None:
    """A webhook handler that is loaded with fewer events limits its endpoints; an unknown one does not."""
    match = EndpointMatch(id="ep_1", client="c", url=URL)
    few = [Subscription(name="webhook", events=frozenset({"task.completed"}), by_request=True)]
    assert [match.wants("task.failed", few), match.wants("task.failed", [])] == [False, True]


def test_secrets_survive_their_text() -> None:
    """What is sealed is what is read again."""
    secrets = EndpointSecrets(secret=SECRET, headers={"X": "1"}).rotated(OTHER_SECRET, NOW, DAY)
    assert EndpointSecrets.from_text(secrets.to_text()) == secrets
    assert SECRET not in repr(secrets)


def test_two_rotations_drop_no_promised_secret() -> None:
    """Each replaced secret signs for its own time; when too many do, another rotation is refused."""
    secrets = EndpointSecrets(secret="whsec_0")
    for number in range(1, 5):
        secrets = secrets.rotated(f"whsec_{number}", NOW + number * HOUR, DAY)
    assert secrets.signing(NOW + 5 * HOUR) == [f"whsec_{number}" for number in (4, 3, 2, 1, 0)]
    with pytest.raises(Conflict, match="2026-05-07T13:00Z"):
        secrets.rotated("whsec_5", NOW + 5 * HOUR, DAY)
    assert secrets.rotated("whsec_5", NOW + 26 * HOUR, DAY).signing(NOW + 26 * HOUR)[:2] == ["whsec_5", "whsec_4"]
    assert secrets.rotated("whsec_5", NOW + 5 * HOUR, timedelta()).signing(NOW) == ["whsec_5"]
