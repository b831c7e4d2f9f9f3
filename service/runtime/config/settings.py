"""What the operator decides: `BOOMERANG_*` from the environment or a `.env` file, read once at the start.

Every wrong setting is a line of one BadSetting that names it and says what is allowed. An unknown `BOOMERANG_*` name is
wrong too, so that a misspelling cannot switch a default on; a handler's own settings are `BOOMERANG_HANDLER_*`, or the
names that it `needs`, which the caller hands in.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeVar

from service.domain.api_key import ApiKey
from service.domain.errors import BadSetting
from service.domain.hosts import is_loopback
from service.domain.webhook_secrets import derive_webhook_secret
from service.runtime.config import setting_types as values
from service.runtime.config.dotenv import PREFIX, read_dotenv
from service.runtime.config.key_file import StoredKeys, load_or_create
from service.runtime.config.setting_types import Parse

__all__ = [
    "Settings",
    "ensure_secret_keys",
    "load_settings",
    "require_keys_for_host",
    "require_upstream_key",
]

T = TypeVar("T")
D = TypeVar("D")
UPSTREAMS = {"vtrix": "https://cloud.vtrix.ai", "vidu": "https://api.vidu.com/ent/v2"}
"""Each provider, and its own address."""

OFF_PEAK_DEADLINE = timedelta(hours=49)
RETRY_SCHEDULE = "0s,5s,30s,2m,10m,30m,2h,6h,16h"

CLIENT_NAMES = frozenset({"URL", "API_KEY"})
"""What the client commands read; no business of the service."""
FREE_PREFIXES = ("HANDLER_", "TEST_")
PLAIN_NAMES = ("DATABASE_URL", "PORT", "WEB_CONCURRENCY")
"""Settings that the platforms' ordinary names serve as well."""
KEPT_BACK = frozenset({"SECRET_KEYS", "API_KEYS", "UPSTREAM_KEY", "DATABASE_URL"})
"""Settings that handlers never see."""

PLATFORM_ADDRESSES = {
    "RENDER_EXTERNAL_URL": "{}",
    "RAILWAY_PUBLIC_DOMAIN": "https://{}",
    "FLY_APP_NAME": "https://{}.fly.dev",
    "HEROKU_APP_DEFAULT_DOMAIN_NAME": "https://{}",
    "KOYEB_PUBLIC_DOMAIN": "https://{}",
    "SPACE_HOST": "https://{}",
}
"""Where a platform says under which public address it serves us, and how to read it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings, typed. Newest keys come first.

    `upstream_rate` is in requests a second, `budget` in US dollars a day; `handlers` is None for the default choice,
    `poll_first` None for the learned one. `present` holds the text of every setting that was given, by its name without
    the prefix, but for keys that are no business of handlers.
    """

    provider: str
    upstream_url: str
    upstream_key: str | None = field(repr=False)
    public_url: str | None
    database_url: str = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)
    api_keys: tuple[ApiKey, ...]
    handlers: tuple[str, ...] | None
    confirm: Literal["always", "never"]
    task_deadline: timedelta
    off_peak_deadline: timedelta
    allow_off_peak: bool
    in_doubt_for: timedelta
    on_in_doubt: Literal["fail", "resubmit"]
    poll_first: timedelta | None
    poll_max: timedelta
    upstream_rate: float
    upstream_concurrency: int
    max_in_flight: int | None
    retry_schedule: tuple[timedelta, ...]
    lease: timedelta
    retention: timedelta
    budget: Decimal | None
    webhook_url: str | None = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    archive_url: str | None
    egress_allow: tuple[str, ...]
    log_format: Literal["console", "json"]
    log_level: Literal["debug", "info", "warning", "error", "critical"]
    port: int
    web_concurrency: int | None
    present: Mapping[str, str] = field(default_factory=dict, repr=False)


NAMES = frozenset(each.name.upper() for each in fields(Settings)) - {"OFF_PEAK_DEADLINE", "PRESENT"}
"""Every setting, without the prefix."""


def load_settings(
    environ: Mapping[str, str], *, dotenv: Path | None = None, needed: Collection[str] = (), terminal: bool = False
) -> Settings:
    """Return the settings of `environ`, then of the file `dotenv` (which may be missing), then the defaults.

    `needed` are further names, without the prefix, that the installed handlers need; `terminal` says whether logs go to
    one. An empty value counts as not given. Raises BadSetting with a line for each wrong setting, or for each line of
    the file that cannot be read; values stay hidden.
    """
    given = {**(read_dotenv(dotenv) if dotenv else {}), **environ}
    reader = _Reader(given)
    faults = _unknown(given, needed)
    settings = _read(reader, terminal=terminal)
    if faults or reader.faults:
        raise BadSetting("\n".join([*faults, *reader.faults]))
    return settings


def _unknown(given: Mapping[str, str], needed: Collection[str]) -> list[str]:
    known = NAMES | CLIENT_NAMES | frozenset(needed)
    ours = sorted(name.removeprefix(PREFIX) for name in given if name.startswith(PREFIX))
    return [_unknown_line(name, known) for name in ours if name not in known and not name.startswith(FREE_PREFIXES)]


def _unknown_line(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    mend = f"did you mean {PREFIX}{near[0]}?" if near else f"a handler's own settings begin with {PREFIX}HANDLER_"
    return f"{PREFIX}{name} is no setting; {mend}"


class _Reader:
    """Reads settings by name and gathers what is wrong with them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = {name: value.strip() for name, value in given.items() if value.strip()}
        self.faults: list[str] = []

    def read(self, name: str, parse: Parse[T], default: T) -> T:
        """Return the setting `name`, or `default` when it is not given or wrong."""
        return self.read_as(self._written(name), parse, default)

    def _written(self, name: str) -> str:
        plain = name in PLAIN_NAMES and PREFIX + name not in self.given
        return name if plain else PREFIX + name

    def read_as(self, written: str, parse: Parse[T], default: D) -> T | D:
        """Return the variable `written`, or `default` when it is not given or wrong."""
        if written not in self.given:
            return default
        try:
            return parse(self.given[written])
        except ValueError as error:
            self.faults.append(f"{written} {error}")
            return default

    def optional(self, name: str, parse: Parse[T]) -> T | None:
        """Return the setting `name`, or None when it is not given or wrong."""
        return self.read_as(self._written(name), parse, None)

    def present(self) -> dict[str, str]:
        """Return the text of every given setting, by its name without the prefix."""
        plain = {name: self.given[name] for name in PLAIN_NAMES if name in self.given}
        ours = {name.removeprefix(PREFIX): text for name, text in self.given.items() if name.startswith(PREFIX)}
        return {name: text for name, text in {**plain, **ours}.items() if name not in KEPT_BACK | CLIENT_NAMES}


def _read(reader: _Reader, *, terminal: bool) -> Settings:
    provider = reader.read("PROVIDER", values.one_of(*UPSTREAMS), "vtrix")
    deadline = reader.read("TASK_DEADLINE", values.positive_duration, timedelta(hours=2))
    return Settings(
        provider=provider,
        upstream_url=reader.read("UPSTREAM_URL", values.address, UPSTREAMS[provider]),
        upstream_key=reader.optional("UPSTREAM_KEY", str) or reader.given.get(f"{provider.upper()}_API_KEY"),
        public_url=_public_url(reader),
        database_url=reader.read("DATABASE_URL", values.database, "sqlite:///boomerang.db"),
        secret_keys=reader.read("SECRET_KEYS", values.secret_keys, ()),
        api_keys=reader.read("API_KEYS", values.api_keys, ()),
        handlers=reader.optional("HANDLERS", values.comma_separated),
        confirm=reader.read("CONFIRM", values.one_of("always", "never"), "always"),
        task_deadline=deadline,
        off_peak_deadline=max(deadline, OFF_PEAK_DEADLINE),
        allow_off_peak=reader.read("ALLOW_OFF_PEAK", values.boolean, False),
        in_doubt_for=reader.read("IN_DOUBT_FOR", values.positive_duration, timedelta(minutes=15)),
        on_in_doubt=reader.read("ON_IN_DOUBT", values.one_of("fail", "resubmit"), "fail"),
        poll_first=reader.optional("POLL_FIRST", values.positive_duration),
        poll_max=reader.read("POLL_MAX", values.positive_duration, timedelta(minutes=5)),
        upstream_rate=reader.read("UPSTREAM_RATE", values.rate, 10.0),
        upstream_concurrency=reader.read("UPSTREAM_CONCURRENCY", values.whole_number(1, 10_000), 16),
        max_in_flight=reader.optional("MAX_IN_FLIGHT", values.whole_number(1, 1_000_000)),
        retry_schedule=reader.read("RETRY_SCHEDULE", values.durations, values.durations(RETRY_SCHEDULE)),
        lease=reader.read("LEASE", values.lease, timedelta(seconds=60)),
        retention=reader.read("RETENTION", values.positive_duration, timedelta(days=30)),
        budget=reader.optional("BUDGET", values.dollars),
        webhook_url=reader.optional("WEBHOOK_URL", values.target),
        webhook_secrets=reader.read("WEBHOOK_SECRETS", values.webhook_secrets, ()),
        archive_url=reader.optional("ARCHIVE_URL", values.archive),
        egress_allow=reader.read("EGRESS_ALLOW", values.egress, ()),
        log_format=reader.read("LOG_FORMAT", values.one_of("console", "json"), "console" if terminal else "json"),
        log_level=reader.read("LOG_LEVEL", values.one_of("debug", "info", "warning", "error", "critical"), "info"),
        port=reader.read("PORT", values.whole_number(0, 65_535), 8080),
        web_concurrency=reader.optional("WEB_CONCURRENCY", values.whole_number(1, 1024)),
        present=reader.present(),
    )


def _public_url(reader: _Reader) -> str | None:
    if given := reader.optional("PUBLIC_URL", values.address):
        return given
    for name, form in PLATFORM_ADDRESSES.items():
        if name in reader.given:
            return reader.read_as(name, _address_in(form), None)
    return None


def _address_in(form: str) -> Parse[str]:
    return lambda text: values.address(form.format(text))


def require_upstream_key(settings: Settings) -> None:
    """Raise BadSetting when there is no key for the upstream."""
    if settings.upstream_key is None:
        raise BadSetting(
            f"{PREFIX}UPSTREAM_KEY (or {settings.provider.upper()}_API_KEY) must be the provider's key; "
            "to see everything work without one, run `boomerang demo`"
        )


def require_keys_for_host(settings: Settings, host: str) -> None:
    """Raise BadSetting when `host` can be reached from other machines and no client needs a key."""
    if not settings.api_keys and not is_loopback(host):
        raise BadSetting(
            f"{PREFIX}API_KEYS must be set to serve on {host}: name=key, comma-separated; without it only 127.0.0.1"
        )


def ensure_secret_keys(settings: Settings) -> Settings:
    """Return the settings with signing keys and webhook secrets: the given ones, else those beside the SQLite file.

    The latter are made once, in `FILE.key` with mode 0600. Webhook secrets that are not given follow from the keys.
    Raises BadSetting when there are none and the database is PostgreSQL, or when the file cannot be used.
    """
    kept = StoredKeys(secret_keys=settings.secret_keys, webhook_secrets=()) if settings.secret_keys else _kept(settings)
    derived = kept.webhook_secrets or tuple(derive_webhook_secret(key) for key in kept.secret_keys)
    secrets = settings.webhook_secrets or derived
    return replace(
        settings,
        secret_keys=kept.secret_keys,
        webhook_secrets=secrets,
        present={**settings.present, "WEBHOOK_SECRETS": ",".join(secrets)},
    )


def _kept(settings: Settings) -> StoredKeys:
    file = values.database_file(settings.database_url)
    if file is None:
        raise BadSetting(f"{PREFIX}SECRET_KEYS must be set with PostgreSQL; `boomerang secret` makes a key")
    return load_or_create(Path(f"{file}.key"))
