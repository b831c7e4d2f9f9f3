"""The address of a PostgreSQL database, parsed once for the pool, the listener and the migrations.

libpq parses the part before the question mark, so that several hosts, socket paths and percent-escapes mean what they
mean everywhere. Parameters of other frameworks are replaced by those of libpq, or refused with the fix.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from service.domain.errors import BadSetting

DEFAULT_PREPARE_THRESHOLD = 5
"""Uses of a statement after which the driver prepares it on the server."""

CONNECTION_DEFAULTS: Mapping[str, str] = {
    "application_name": "boomerang",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""Parameters that the address may overrule. A host that vanishes is noticed within 20 seconds on an idle connection,
and within 5 seconds (`tcp_user_timeout`, in milliseconds) after something was sent to it."""

KNOWN_PARAMETERS = frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())
SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
NEVER_PREPARED = frozenset({"", "0", "none", "off", "false"})
TRUE, FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})

SAME_MEANING: Mapping[str, str] = {
    "currentschema": "schema",
    "search_path": "schema",
    "ssl": "sslmode",
    "sslaccept": "sslmode",
    "preparethreshold": "prepare_threshold",
    "prepared_statement_cache_size": "prepare_threshold",
    "statement_cache_size": "prepare_threshold",
}
"""Parameters of other frameworks (JDBC, Prisma, pgx, asyncpg), in lower case, and ours with the same meaning."""

SSL_WORDS: Mapping[str, str] = {
    "true": "require",
    "1": "require",
    "false": "disable",
    "0": "disable",
    "no-verify": "require",
    "accept_invalid_certs": "require",
    "strict": "verify-full",
}
"""Values of other frameworks for `sslmode`."""

WITHOUT_EFFECT = frozenset({"supa", "uselibpqcompat", "serverversion"})
"""Parameters that platforms add and that concern other drivers only."""

POOL_PARAMETERS = frozenset(
    {"connection_limit", "pool_timeout", "pool_size", "max_overflow", "pool_recycle", "pool_max_conns", "maxpoolsize"}
)


@dataclass(frozen=True, kw_only=True)
class PostgresAddress:
    """Where a PostgreSQL database is and how its sessions are set up.

    `parameters` are those of libpq. `session` holds the settings of each session that the address asks for, like
    `search_path`; they are set after connecting, because connection poolers refuse them before. `prepare_threshold` is
    None where no statement may be prepared on the server. With `pooled`, sessions are shared by transactions of others.
    """

    parameters: Mapping[str, str] = field(repr=False)
    session: Mapping[str, str] = field(default_factory=dict)
    prepare_threshold: int | None = DEFAULT_PREPARE_THRESHOLD
    pooled: bool = False


def parse_postgres_address(text: str, name: str) -> PostgresAddress:
    """Return the address in `text`, whatever its scheme; raises BadSetting with the setting's `name` and the fix.

    No message contains a part of `text` other than the name of a parameter.
    """
    head, _, query = text.partition("://")[2].partition("?")
    if "@" in query and "@" not in head:  # otherwise a part of the password would count as a name
        raise BadSetting(f"{name} has a question mark inside a name or password: write %3F for it")
    given, own = _libpq_parameters(head, name), _Query(name)
    for key, value in _pairs(query, name):
        own.add(key, value)
    parameters = {**CONNECTION_DEFAULTS, **given, **own.parameters, "client_encoding": "UTF8"}
    return PostgresAddress(
        parameters=parameters, session=own.session, prepare_threshold=own.prepare_threshold, pooled=own.pooled
    )


def _libpq_parameters(head: str, name: str) -> dict[str, str]:
    """Return user, password, hosts, ports and database of the part before the question mark."""
    try:
        found = conninfo_to_dict(f"postgresql://{head.replace(' ', '%20')}")
    except psycopg.Error:
        raise BadSetting(
            f"{name} cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with %25 %40 %3A %2F for % @ : / inside a name or password"
        ) from None
    return {key: str(value) for key, value in found.items() if value is not None}


def _pairs(query: str, name: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&"):
        key, mark, value = part.partition("=")
        if not part:
            continue
        if not mark or re.search("%(?![0-9A-Fa-f]{2})|%00", part):
            raise BadSetting(f"{name} has an invalid parameter after the question mark: write name=value, %25 for %")
        yield unquote(key), unquote(value.replace("+", " ") if key == "options" else value)


@dataclass
class _Query:
    """The parameters after the question mark, as they are read one by one."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    session: dict[str, str] = field(default_factory=dict)
    prepare_threshold: int | None = DEFAULT_PREPARE_THRESHOLD
    pooled: bool = False
    _hosts: list[str] = field(default_factory=list)

    def add(self, key: str, value: str) -> None:
        """Take one parameter; raises BadSetting for one that has no meaning here."""
        word = SAME_MEANING.get(key.lower(), key)
        adders: Mapping[str, Callable[[str, str], None]] = {
            "host": self._add_host,
            "options": self._add_options,
            "schema": self._add_schema,
            "sslmode": self._add_ssl_mode,
            "prepare_threshold": self._add_threshold,
            "pgbouncer": self._add_pooled,
        }
        if word in adders:
            adders[word](key, value)
        elif word in KNOWN_PARAMETERS:
            self.parameters[word] = value
        elif word.lower() not in WITHOUT_EFFECT and (word.lower(), value.lower()) != ("charset", "utf8"):
            raise self._refused(key)

    def _add_host(self, _key: str, value: str) -> None:
        """Add a host; several may be given, each with its port, or one list as libpq has it."""
        self._hosts.append(value)
        if len(self._hosts) == 1:
            self.parameters["host"] = value
            return
        pairs = [re.fullmatch(r"(.*?)(?::([0-9]+))?", host) for host in self._hosts]
        self.parameters["host"] = ",".join(pair[1] for pair in pairs if pair)
        if any(pair and pair[2] for pair in pairs):
            self.parameters["port"] = ",".join(pair[2] or "" for pair in pairs if pair)

    def _add_options(self, _key: str, value: str) -> None:
        """Read the settings in libpq's `options`, like `-c search_path=x`; what else it contains stays there."""
        words = iter([re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|\S)+", value)])
        rest: list[str] = []
        for word in words:
            setting = f"-c{next(words, '')}" if word == "-c" else word
            match = re.fullmatch(r"(?:-c|--)([A-Za-z_][\w.$-]*)=(.*)", setting, re.DOTALL)
            if match:
                self.session[match[1].replace("-", "_").lower()] = match[2]
            elif setting.startswith("-c"):
                raise BadSetting(f"{self.name} has invalid options: write options=-c%20NAME=VALUE, %20 for each blank")
            else:
                rest.append(re.sub(r"([\\\s])", r"\\\1", word))
        if rest:
            self.parameters["options"] = " ".join(rest)

    def _add_schema(self, _key: str, value: str) -> None:
        self.session["search_path"] = value

    def _add_ssl_mode(self, key: str, value: str) -> None:
        mode = SSL_WORDS.get(value.lower(), value.lower())
        if mode not in SSL_MODES:
            raise self._unknown_value(key, f"sslmode={'|'.join(sorted(SSL_MODES))}")
        self.parameters["sslmode"] = mode

    def _add_threshold(self, key: str, value: str) -> None:
        if not re.fullmatch("[0-9]{1,6}", value) and value.lower() not in NEVER_PREPARED:
            raise self._unknown_value(key, "prepare_threshold=5, or 0 for never")
        never, is_size = value.lower() in NEVER_PREPARED, key.lower().endswith("cache_size")
        self.prepare_threshold = None if never else DEFAULT_PREPARE_THRESHOLD if is_size else int(value)

    def _add_pooled(self, key: str, value: str) -> None:
        if value.lower() not in TRUE | FALSE:
            raise self._unknown_value(key, f"{key}=true or leave it out")
        self.pooled = value.lower() in TRUE

    def _unknown_value(self, key: str, fix: str) -> BadSetting:
        return BadSetting(f"{self.name} has {key} with an unknown value: write {fix}")

    def _refused(self, key: str) -> BadSetting:
        if key.lower() in POOL_PARAMETERS:
            return BadSetting(
                f"{self.name} has the parameter {key[:40]} of another framework: leave it out; "
                "BOOMERANG_DATABASE_POOL limits the connections"
            )
        return BadSetting(
            f'{self.name} has an invalid connection option "{key[:40]}": leave it out; PostgreSQL knows none of this '
            "name. A setting of the session is given with options=-c%20NAME=VALUE"
        )
