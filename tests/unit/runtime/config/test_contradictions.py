"""Settings that contradict each other stop the start with one line, which names the setting and the fix."""

import pytest

from service.domain.errors import BadSetting
from service.runtime.config.settings import load_settings

CLIENT = "example-key-of-ops"


def faults(given: dict[str, str]) -> list[str]:
    """Return the lines of the refusal of settings, whose names have no prefix; none if they are accepted."""
    try:
        load_settings({f"BOOMERANG_{name}": value for name, value in given.items()})
    except BadSetting as refusal:
        return str(refusal).splitlines()
    return []


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"LEASE": "2h"}, "LEASE must be a duration from 1s to 1h"),
        ({"API_KEYS": f"ops={CLIENT}", "METRICS_KEY": CLIENT}, "METRICS_KEY must be another key"),
        ({"DATABASE_LISTEN_URL": "postgresql://h/d"}, "DATABASE_LISTEN_URL must be a direct address"),
        (
            {"DATABASE_URL": "postgresql://h/d", "DATABASE_LISTEN_URL": "sqlite:///x.db"},
            "DATABASE_LISTEN_URL must be a direct address",
        ),
        ({"ARCHIVE_ENDPOINT": "https://s3.example"}, "ARCHIVE_ENDPOINT needs a bucket"),
        ({"ARCHIVE_SECRET_KEY": "hidden"}, "ARCHIVE_SECRET_KEY needs a bucket"),
        ({"UPSTREAM_KEY": "two words"}, "UPSTREAM_KEY must be a key"),
        ({"UPSTREAM_KEY": "kl\u00fcssel"}, "UPSTREAM_KEY must be a key"),
        ({"HTTP_PROXY": "foo"}, "HTTP_PROXY must be the address of a proxy"),
        ({"HTTP_PROXY": "proxy.example.org"}, "HTTP_PROXY must be the address of a proxy"),
        ({"HTTP_PROXY": "user@proxy.example.org"}, "HTTP_PROXY must be the address of a proxy"),
    ],
)
def test_contradiction_is_one_line_without_a_value(given: dict[str, str], names: str) -> None:
    """The line begins with the setting, and says what is allowed; no line contains a value."""
    [line] = faults(given)
    assert line.startswith(f"BOOMERANG_{names}")
    assert not [value for value in given.values() if value in line and value != "proxy.example.org"]  # the example


@pytest.mark.parametrize(
    "given",
    [
        {"POLL_FIRST": "60s", "POLL_MAX": "10s"},  # no task is faster than a minute
        {"POLL_FIRST": "3h"},  # callbacks are expected
        {"TASK_DEADLINE": "10s", "IN_DOUBT_FOR": "30s", "LEASE": "60s", "POLL_FIRST": "20s"},
        {"RETRY_SCHEDULE": "0s,5s", "CIRCUIT_MAX_PAUSE": "5d"},
        {"LEASE": "1h"},
        {"BUDGET": "0", "CLIENT_BUDGET": "0"},  # stops submissions, and each task says so
        {"BUDGET": "0.10"},  # one task a day of unknown price
        {"API_KEYS": f"ops={CLIENT}", "METRICS_KEY": CLIENT + "-of-metrics"},
        {"DATABASE_URL": "postgresql://h/d", "DATABASE_LISTEN_URL": "postgresql://direct/d"},
        {"ARCHIVE_ENDPOINT": "https://s3.example", "ARCHIVE_URL": "file:///srv"},
        {"HTTP_PROXY": "proxy:3128"},
        {"HTTP_PROXY": "http://proxy"},
        {"HTTP_PROXY": "none"},
    ],
)
def test_settings_that_fit_are_accepted(given: dict[str, str]) -> None:
    """Times may have any order, and limits may stop everything on purpose."""
    assert faults(given) == []


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_name_alone_is_a_proxy_in_the_variables_of_others(name: str) -> None:
    """Other programs take it there."""
    load_settings({name: "proxy.example.org"})
