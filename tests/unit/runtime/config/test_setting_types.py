"""The texts of settings, with whatever Hypothesis thinks of."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import BadSetting
from service.runtime.config.setting_types import (
    MAX_DURATION,
    UNITS,
    archive,
    database,
    database_file,
    dollars,
    duration,
    durations,
    rate,
)
from service.runtime.config.settings import NAMES, load_settings


def duration_or_words(text: str) -> timedelta | str:
    """Return the duration, or the words of its refusal."""
    try:
        return duration(text)
    except ValueError as error:
        return str(error)


@given(st.integers(min_value=0, max_value=3650 * 24), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_of_its_unit(number: int, unit: str) -> None:
    """Every whole number with a unit is read exactly, up to ten years, and refused beyond."""
    length = number * UNITS[unit]
    if length <= MAX_DURATION:
        assert duration(f"{number}{unit}") == length
    else:
        with pytest.raises(ValueError, match="at most 3650d"):
            duration(f"{number}{unit}")


@given(st.text(max_size=40))
def test_no_text_makes_a_duration_fail_otherwise(text: str) -> None:
    """Any text is a duration in its bounds, or a ValueError that says what is allowed: nothing overflows."""
    length = duration_or_words(text)
    assert "must be a duration" in length if isinstance(length, str) else timedelta(0) <= length <= MAX_DURATION


@given(st.integers(min_value=0, max_value=10**40), st.sampled_from(sorted(UNITS)))
def test_huge_durations_are_refused_before_they_are_computed(number: int, unit: str) -> None:
    """However many digits there are, the answer is a bounded duration or a refusal."""
    length = duration_or_words(f"{number}{unit}")
    assert "must be a duration" in length if isinstance(length, str) else length <= MAX_DURATION


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=12))
def test_a_schedule_keeps_its_order(seconds: list[int]) -> None:
    """A list of durations is read part by part."""
    text = ",".join(f"{each}s" for each in seconds)
    assert durations(text) == tuple(timedelta(seconds=each) for each in seconds)


@given(st.integers(min_value=1, max_value=10**6))
def test_a_rate_a_minute_is_sixty_times_one_a_second(number: int) -> None:
    """The unit of a rate is what it divides by."""
    assert rate(f"{number * 60}/m") == pytest.approx(rate(f"{number}/s"))


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=30), max_size=6))
def test_any_environment_gives_settings_or_one_line_for_each_wrong_one(given_texts: dict[str, str]) -> None:
    """Whatever the values are, the start goes on or stops with lines that name settings; it never breaks."""
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
def test_the_file_of_a_database_address(url: str, file: str | None) -> None:
    """Three slashes are relative, four are absolute; PostgreSQL has no file."""
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
def test_the_usual_addresses_of_postgresql_are_taken_as_they_are(url: str) -> None:
    """Sockets, IPv6, options and percent-encoded passwords are the driver's business."""
    assert database(url) == url


@pytest.mark.parametrize("break_", ["\n", "\x1b", "\x7f", "\x9b", "%0A", "%1b"])
def test_a_file_with_a_line_break_or_an_escape_in_its_name_is_refused(break_: str) -> None:
    """Its name stands in messages, which are one line and steer no terminal."""
    with pytest.raises(ValueError, match="sqlite:///FILE"):
        database(f"sqlite:////srv/a{break_}b.db")
    with pytest.raises(ValueError, match="address of a directory"):
        archive(f"file:///srv/a{break_}b")


@pytest.mark.parametrize("url", ["postgresql://u:p@h:port/d", "postgresql://u:p@ss@h/d", "postgresql://u:p/ss@h/d"])
def test_a_password_that_is_not_encoded_is_refused_and_never_repeated(url: str) -> None:
    """A port that is no number, and a stray @ or /, would send a part of the password to the resolver and the log."""
    with pytest.raises(ValueError, match="%40 %3A %2F") as refusal:
        database(url)
    assert "ss" not in str(refusal.value).replace("password", "").replace("PASSWORD", "")


@pytest.mark.parametrize("amount", ["1e400", "1e10", "-1", "NaN", "Infinity", "many"])
def test_a_budget_is_an_amount_of_money(amount: str) -> None:
    """A budget that no float holds would be no limit at all: it is refused like what is no amount."""
    with pytest.raises(ValueError, match="at most a billion"):
        dollars(amount)


@pytest.mark.parametrize("url", ["file://[secret/x", "file://secret\u2100/x"])
def test_an_archive_that_cannot_be_read_is_never_repeated(url: str) -> None:
    """An address that breaks the parser is refused in our own words."""
    with pytest.raises(ValueError, match="like file:///srv/videos") as refused:
        archive(url)
    assert "secret" not in str(refused.value)
