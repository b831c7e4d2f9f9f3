"""The parsers of settings, with generated texts."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.durations import MAX_DURATION, UNITS, duration
from service.domain.errors import BadSetting
from service.domain.submission_limits import ClientLimit
from service.runtime.config.setting_parsers import (
    archive,
    client_limit,
    database,
    database_file,
    dollars,
    durations,
    positive_dollars,
    rate,
    whole_number,
)
from service.runtime.config.settings import NAMES, load_settings


def duration_or_message(text: str) -> timedelta | str:
    """Return the duration, or the message of its refusal."""
    try:
        return duration(text)
    except ValueError as error:
        return str(error)


@given(st.integers(min_value=0, max_value=3650 * 24), st.sampled_from(sorted(UNITS)))
def test_duration_is_its_number_times_its_unit(number: int, unit: str) -> None:
    """Every whole number with a unit is parsed exactly up to ten years and refused beyond."""
    length = number * UNITS[unit]
    if length <= MAX_DURATION:
        assert duration(f"{number}{unit}") == length
    else:
        with pytest.raises(ValueError, match="at most 3650d"):
            duration(f"{number}{unit}")


@given(st.text(max_size=40))
def test_every_text_gives_a_duration_or_a_refusal(text: str) -> None:
    """Any text gives a duration within the limits or a ValueError that says what is allowed; nothing overflows."""
    length = duration_or_message(text)
    assert "must be a duration" in length if isinstance(length, str) else timedelta(0) <= length <= MAX_DURATION


@given(st.integers(min_value=0, max_value=10**40), st.sampled_from(sorted(UNITS)))
def test_huge_durations_are_refused_before_they_are_computed(number: int, unit: str) -> None:
    """Any number of digits gives a duration within the limits or a refusal."""
    length = duration_or_message(f"{number}{unit}")
    assert "must be a duration" in length if isinstance(length, str) else length <= MAX_DURATION


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=12))
def test_schedule_keeps_its_order(seconds: list[int]) -> None:
    """A list of durations is parsed in order."""
    text = ",".join(f"{each}s" for each in seconds)
    assert durations(text) == tuple(timedelta(seconds=each) for each in seconds)


@given(st.integers(min_value=1, max_value=10**6))
def test_rate_is_divided_by_its_unit(number: int) -> None:
    """60 times as many requests a minute are the same rate as one a second."""
    assert rate(f"{number * 60}/m") == pytest.approx(rate(f"{number}/s"))


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=30), max_size=6))
def test_any_environment_gives_settings_or_one_line_for_each_wrong_one(given_texts: dict[str, str]) -> None:
    """Any values give settings or a BadSetting whose lines name the settings; no other error occurs."""
    try:
        load_settings({f"BOOMERANG_{name}": text for name, text in given_texts.items()})
    except BadSetting as refusal:
        for line in str(refusal).splitlines():
            assert line.removeprefix("BOOMERANG_").split()[0] in given_texts


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///boomerang.db", "boomerang.db"),
        ("sqlite:////srv/boomerang.db", "/srv/boomerang.db"),
        ("sqlite:///b.db?mode=rw", "b.db"),
        ("sqlite:////srv/my%20files/b.db", "/srv/my files/b.db"),
        ("postgresql://h/d", None),
    ],
)
def test_database_file_is_found_in_the_address(url: str, file: str | None) -> None:
    """Three slashes start a relative path, four an absolute one; PostgreSQL has no file."""
    found = database_file(database(url))
    assert (str(found) if found else None) == file


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u:p%40ss%2F@h:5432/d?sslmode=require",
        "postgresql://u@[::1]:5432/d",
        "postgresql://[::1]/d?options=-c%20a%3Db",
    ],
)
def test_usual_postgresql_addresses_are_not_changed(url: str) -> None:
    """The driver handles sockets, IPv6, options and percent-encoded passwords."""
    assert database(url) == url


@pytest.mark.parametrize("control", ["\n", "\x1b", "\x7f", "\x9b", "%0A", "%1b"])
def test_file_name_with_a_control_character_is_refused(control: str) -> None:
    """Messages contain the name; they must be one line and must not control the terminal."""
    with pytest.raises(ValueError, match="sqlite:///FILE"):
        database(f"sqlite:////srv/a{control}b.db")
    with pytest.raises(ValueError, match="address of a directory"):
        archive(f"file:///srv/a{control}b")


@pytest.mark.parametrize("url", ["postgresql://u:p@h:port/d", "postgresql://u:p@ss@h/d", "postgresql://u:p/ss@h/d"])
def test_unencoded_password_is_refused_and_never_repeated(url: str) -> None:
    """With a non-numeric port or a stray @ or /, a part of the password would reach the resolver and the log."""
    with pytest.raises(ValueError, match="%40 %3A %2F") as refusal:
        database(url)
    assert "ss" not in str(refusal.value).replace("password", "").replace("PASSWORD", "")


@pytest.mark.parametrize("amount", ["1e400", "1e10", "-1", "NaN", "Infinity", "many"])
def test_invalid_budget_is_refused(amount: str) -> None:
    """A budget that a float cannot hold would be no limit; it is refused like a text that is no amount."""
    with pytest.raises(ValueError, match="at most a billion"):
        dollars(amount)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("5", ClientLimit(default=5)),
        ("5,bot=20,ops=none", ClientLimit(default=5, exceptions={"bot": 20, "ops": None})),
        ("none , bot = 2", ClientLimit(exceptions={"bot": 2})),
        ("bot=2", ClientLimit(exceptions={"bot": 2})),
    ],
)
def test_limit_by_client(text: str, limit: ClientLimit) -> None:
    """One limit for each client, with exceptions by name, of which `none` removes the limit."""
    assert client_limit(whole_number(1, 99))(text) == limit


@pytest.mark.parametrize(
    "text", ["", "5,6", "bot=1,bot=2", "=5", "a b=5", "a\x1b=5", "5,", "bot=", "5,bot=lots", "0", "-1", "bot=100"]
)
def test_invalid_limit_by_client_is_refused(text: str) -> None:
    """Two limits without a name, a client named twice and a number out of range are refused with what is allowed."""
    with pytest.raises(ValueError, match="must"):
        client_limit(whole_number(1, 99))(text)


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "many"])
def test_price_is_more_than_zero(amount: str) -> None:
    """A price of zero would let every task of unknown price through."""
    with pytest.raises(ValueError, match="more than 0"):
        positive_dollars(amount)


@pytest.mark.parametrize("url", ["file://[secret/x", "file://secret\u2100/x"])
def test_unparsable_archive_address_is_never_repeated(url: str) -> None:
    """An address that urlsplit rejects is refused without the message of urlsplit, which repeats it."""
    with pytest.raises(ValueError, match="like file:///srv/videos") as refused:
        archive(url)
    assert "secret" not in str(refused.value)
