"""One address of PostgreSQL has one meaning; parameters of other frameworks are replaced or refused with the fix."""

import pytest

from service.domain.errors import BadSetting
from service.storage.dialects import parse_address
from service.storage.pg_address import PostgresAddress


def parsed(url: str) -> PostgresAddress:
    """Return the address in `url`, which names PostgreSQL."""
    server = parse_address(url).server
    assert server is not None
    return server


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h:5433/d", {"user": "u", "password": "p", "host": "h", "port": "5433", "dbname": "d"}),
        ("postgres://h/d", {"host": "h", "dbname": "d"}),
        ("postgresql+asyncpg://h/d", {"host": "h", "dbname": "d"}),
        ("postgresql://a%20b:c%20d%40e%3A@h/d", {"user": "a b", "password": "c d@e:"}),
        ("postgresql://a b:c d@h/d", {"user": "a b", "password": "c d"}),
        ("postgresql://u:a+b@h/d%20e", {"password": "a+b", "dbname": "d e"}),
        ("postgresql://h1:1,h2:2/d", {"host": "h1,h2", "port": "1,2"}),
        ("postgresql://u@/d?host=h1:1&host=h2:2", {"host": "h1,h2", "port": "1,2"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433"}),
        ("postgresql:///d?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "d"}),
        ("postgresql://%2Frun%2Fpostgresql/d", {"host": "/run/postgresql"}),
        ("postgresql://h/d?user=u&password=p", {"user": "u", "password": "p"}),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem", {"sslmode": "verify-full"}),
        ("postgresql://h/d?sslmode=no-verify", {"sslmode": "require"}),
        ("postgresql://h/d?ssl=true", {"sslmode": "require"}),
        ("postgresql://h/d?ssl=false", {"sslmode": "disable"}),
        ("postgresql://h/d?sslaccept=strict", {"sslmode": "verify-full"}),
        ("postgresql://h/d?application_name=mine&connect_timeout=3", {"application_name": "mine"}),
        ("postgresql://h/d?client_encoding=LATIN1", {"client_encoding": "UTF8"}),
        ("postgresql://h/d?target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("postgresql://h/d?options=endpoint%3Dep-1", {"options": "endpoint=ep-1"}),
        ("postgresql://h/d?supa=base-pooler.x&uselibpqcompat=true&charset=utf8", {"host": "h"}),
    ],
)
def test_parameters_of_the_connection(url: str, expected: dict[str, str]) -> None:
    """Hosts, names, passwords and parameters reach the driver as they are meant."""
    parameters = parsed(url).parameters
    assert expected.items() <= parameters.items()
    assert not {"supa", "uselibpqcompat", "charset", "ssl", "sslaccept"} & set(parameters)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("options=-c%20search_path%3Da,b", {"search_path": "a,b"}),
        ("options=-c search_path=a", {"search_path": "a"}),
        ("options=-c+search_path%3Da", {"search_path": "a"}),
        ("options=--search-path%3Da", {"search_path": "a"}),
        ("options=-csearch_path%3Da%5C%20b", {"search_path": "a b"}),
        ("options=-c%20a.b%3D1%20-c%20statement_timeout%3D5s", {"a.b": "1", "statement_timeout": "5s"}),
        ("schema=mine", {"search_path": "mine"}),
        ("currentSchema=mine", {"search_path": "mine"}),
    ],
)
def test_settings_of_the_session(query: str, expected: dict[str, str]) -> None:
    """Settings are taken out of libpq's `options`, which poolers refuse, and out of the words of other frameworks."""
    address = parsed(f"postgresql://h/d?{query}")
    assert address.session == expected
    assert "options" not in address.parameters


@pytest.mark.parametrize(
    ("query", "threshold", "pooled"),
    [
        ("", 5, False),
        ("prepare_threshold=3", 3, False),
        ("prepare_threshold=0", None, False),
        ("prepare_threshold=None", None, False),
        ("prepareThreshold=0", None, False),
        ("statement_cache_size=0", None, False),
        ("prepared_statement_cache_size=500", 5, False),
        ("pgbouncer=true", 5, True),
        ("pgbouncer=false", 5, False),
    ],
)
def test_prepared_statements_and_poolers(query: str, threshold: int | None, pooled: bool) -> None:
    """Whether statements are prepared, and whether sessions are shared, can be set in the address."""
    address = parsed(f"postgresql://h/d?{query}")
    assert (address.prepare_threshold, address.pooled) == (threshold, pooled)


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("postgresql://h/d?connection_limit=1", "BOOMERANG_DATABASE_POOL"),
        ("postgresql://h/d?pool_timeout=0", "BOOMERANG_DATABASE_POOL"),
        ("postgresql://h/d?foo=bar", 'invalid connection option "foo": leave it out'),
        ("postgresql://h/d?sslmode=maybe", "sslmode=allow|disable"),
        ("postgresql://h/d?prepare_threshold=often", "prepare_threshold=5"),
        ("postgresql://h/d?pgbouncer=maybe", "pgbouncer=true"),
        ("postgresql://h/d?options=-c%20search_path", "options=-c%20NAME=VALUE"),
        ("postgresql://h/d?sslmode", "write name=value"),
        ("postgresql://h/d?user=%zz", "%25 for %"),
        ("postgresql://u:secret%zz@h/d", "%25 %40 %3A %2F"),
        ("postgresql://u:1?secret=x@h/d", "write %3F"),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_fix(url: str, fix: str) -> None:
    """The message names the setting and the fix, and never a part of a password."""
    with pytest.raises(BadSetting) as caught:
        parse_address(url, "DATABASE_LISTEN_URL")
    assert str(caught.value).startswith("DATABASE_LISTEN_URL has ") or "cannot be read" in str(caught.value)
    assert fix in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_password_is_not_in_the_repr() -> None:
    """An address in a traceback or a log does not show its password."""
    assert "hidden" not in repr(parse_address("postgresql://u:hidden@h/d"))
