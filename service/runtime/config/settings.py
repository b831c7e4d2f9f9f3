"""Read the settings: `BOOMERANG_*` from the environment or a `.env` file, once at the start.

A BadSetting has one line for each invalid setting, with its name and what is allowed. An unknown `BOOMERANG_*` name is
invalid too: otherwise a misspelt name would leave the default in force. A handler's own settings are
`BOOMERANG_HANDLER_*`, or the names that the handler `needs`, which the caller passes.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError
from pydantic_core import ErrorDetails

from service.domain.errors import BadSetting
from service.domain.submission_limits import ClientLimit
from service.network.proxies import proxy_faults
from service.network.transport import VARIABLES
from service.runtime.config.archive_checks import archive_faults
from service.runtime.config.contradictions import CONTRADICTIONS
from service.runtime.config.dotenv import PREFIX
from service.runtime.config.field_types import (
    AccessKey,
    Address,
    ApiKeys,
    ArchiveAddress,
    Concurrency,
    ConnectionCount,
    CountByClient,
    DatabaseAddress,
    Dollars,
    DollarsByClient,
    Duration,
    EgressRules,
    FailureCount,
    Flag,
    LeaseTime,
    Names,
    Networks,
    Port,
    Price,
    ProcessCount,
    ProviderKey,
    Rate,
    Region,
    Schedule,
    SecretKeys,
    ShortTime,
    Target,
    TaskLimit,
    Text,
    WebhookSecrets,
    Word,
)
from service.runtime.config.limit_checks import CLIENT_LIMITS, missing_credit_price, unknown_clients
from service.runtime.config.variables import (
    Check,
    once_for_each,
    private_names,
    rate_faults,
    read_variables,
    retry_schedules,
    unknown_names,
)

UPSTREAMS = {"vtrix": "https://cloud.vtrix.ai", "vidu": "https://api.vidu.com/ent/v2"}
"""The address of each provider."""

OFF_PEAK_DEADLINE = timedelta(hours=49)
"""The minimum time limit of off-peak tasks, which the provider runs within 48 hours."""

CLIENT_NAMES = frozenset({"URL", "API_KEY"})
"""Settings of the client commands, which the service ignores."""
PLAIN_NAMES = ("DATABASE_URL", "PORT", "WEB_CONCURRENCY")
"""Settings that are also read from the platforms' own names, without the prefix."""
PRIVATE_NAMES = frozenset(
    {"SECRET_KEYS", "API_KEYS", "METRICS_KEY", "UPSTREAM_KEY", "DATABASE_URL", "DATABASE_LISTEN_URL", "HTTP_PROXY"}
    | {"ARCHIVE_ACCESS_KEY", "ARCHIVE_SECRET_KEY"}
)
"""Settings that handlers never see."""

PLATFORM_ADDRESSES = {
    "RENDER_EXTERNAL_URL": "{}",
    "RAILWAY_PUBLIC_DOMAIN": "https://{}",
    "FLY_APP_NAME": "https://{}.fly.dev",
    "HEROKU_APP_DEFAULT_DOMAIN_NAME": "https://{}",
    "KOYEB_PUBLIC_DOMAIN": "https://{}",
    "SPACE_HOST": "https://{}",
}
"""Variables in which platforms give the public address of the service, and how it follows from the value."""


def setting(default: object, description: str, *, repr: bool = True) -> Any:  # noqa: A002 - the name in pydantic
    """Declare a setting. A default in text is parsed like a given value."""
    return Field(default, description=description, repr=repr, validate_default=True)


secret = partial(setting, repr=False)
"""Declares a setting whose value does not appear in the repr."""


class Settings(BaseModel):
    """The typed settings. Each field is a setting with the same name in capitals, except the last two.

    Lists of keys and secrets have the newest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: Annotated[Literal["vtrix", "vidu"], Word] = setting("vtrix", "`vtrix` or `vidu`")
    upstream_url: Address = Field(
        description="address of the provider's API",
        default_factory=lambda data: UPSTREAMS[data.get("provider", "vtrix")],
    )
    upstream_key: ProviderKey | None = secret(
        None, "API key of the provider; VTRIX_API_KEY or VIDU_API_KEY also set it"
    )
    public_url: Address | None = setting(None, "address that the provider calls back; without it tasks are polled")
    database_url: DatabaseAddress = secret("sqlite:///boomerang.db", "SQLite or PostgreSQL; DATABASE_URL also sets it")
    database_pool: ConnectionCount = setting("8", "maximum number of connections to PostgreSQL, the listener included")
    database_listen_url: DatabaseAddress | None = secret(
        None, "direct address for LISTEN where DATABASE_URL leads through a transaction pooler"
    )
    secret_keys: SecretKeys = secret((), "signing keys; created beside the SQLite file, required with PostgreSQL")
    api_keys: ApiKeys = setting((), "keys of the clients; without them only a loopback host can be bound")
    metrics_key: AccessKey | None = secret(None, "a key that may read /metrics and nothing else; an admin's may too")
    handlers: Names | None = setting(None, "handlers to load; by default log, webhook and every configured one")
    handlers_dir: Text = setting("handlers", "directory of the operator's own handlers")
    confirm: Annotated[Literal["always", "never"], Word] = setting(
        "always", "whether callbacks are confirmed by a poll"
    )
    task_deadline: Duration = setting("2h", "time after which a task expires; at least 49h for off-peak tasks")
    allow_off_peak: Flag = setting("false", "accept off-peak tasks, which the provider calls temporarily unavailable")
    allow_unchecked_models: Flag = setting("false", "accept models that are not known here, without checking them")
    in_doubt_for: Duration = setting("15m", "maximum time that a submission without a reply stays in doubt")
    on_in_doubt: Annotated[Literal["fail", "resubmit"], Word] = setting(
        "fail", "what follows; resubmit may charge twice"
    )
    on_no_credit: Annotated[Literal["wait", "fail"], Word] = setting(
        "wait", "what tasks do while the provider's account is empty"
    )
    progress_every: Duration = setting("5s", "how often a task is polled while someone watches its progress")
    poll_first: Duration | None = setting(None, "time from submission to first poll; estimated by default")
    poll_max: Duration = setting("5m", "maximum time between two polls")
    upstream_rate: Rate = setting("10/s", "maximum rate of requests to the provider; the value is per second")
    upstream_concurrency: Concurrency = setting("16", "maximum number of concurrent requests to the provider")
    max_in_flight: TaskLimit | None = setting(None, "maximum number of unfinished tasks at the provider")
    retry_schedule: Schedule = setting("0s,5s,30s,2m,10m,30m,2h,6h,16h", "delay before each attempt of a delivery")
    circuit_failures: FailureCount = setting("5", "consecutive failures that open a destination's circuit; 0 for never")
    circuit_max_pause: Duration = setting("30m", "longest pause between the probes of a destination that fails")
    lease: LeaseTime = setting("60s", "time after which a lease expires unless it is renewed")
    retention: Duration = setting("30d", "age at which raw callbacks, attempts and inputs are deleted")
    budget: Dollars | None = setting(None, "US dollars a day (UTC); past it tasks stay queued")
    budget_each: Price = setting("1.00", "US dollars that a task counts as while the price of such a task is unknown")
    credit_price: Price | None = setting(None, "US dollars for a credit of the provider; BUDGET with vidu needs it")
    client_budget: DollarsByClient | None = setting(None, "US dollars a day (UTC) for each client")
    client_max_in_flight: CountByClient | None = setting(None, "maximum of unfinished tasks for each client")
    client_rate: CountByClient | None = setting(None, "maximum of submissions a minute for each client")
    webhook_url: Target | None = secret(None, "address that receives every event")
    webhook_secrets: WebhookSecrets = secret((), "secrets that sign webhooks; derived from SECRET_KEYS by default")
    archive_url: ArchiveAddress | None = setting(
        None, "directory or bucket in which the archive handler stores results"
    )
    archive_endpoint: Address | None = setting(None, "address of an S3-compatible store; by default the cloud's own")
    archive_region: Region | None = setting(None, "region of the bucket; AWS_REGION also sets it")
    archive_access_key: Text | None = secret(None, "id of the access key, with az:// the account; or the cloud's names")
    archive_secret_key: Text | None = secret(None, "secret of the access key, with az:// the account's key")
    archive_allow_http: Flag = setting("false", "accept a store's address that is http, without encryption")
    archive_signed_urls: Annotated[Literal["on", "off"], Word] = setting(
        "on", "whether content in a bucket is served by addresses that the store signs"
    )
    egress_allow: EgressRules = setting((), "internal networks and hosts that the operator's handlers may connect to")
    notify_allow: EgressRules = setting((), "the same for addresses that clients give, with ports below 1024")
    egress_deny: Networks = setting((), "networks that look public and are not; never connected to")
    notify_handlers: Names | None = setting(
        None, "handlers that `notify` may name without an admin's key; by default webhook and the chat handlers"
    )
    notify_rate: Rate | None = setting(
        None, "maximum rate of deliveries to each host that a client's addresses name; the value is per second"
    )
    http_proxy: Text | None = secret(None, "proxy of all outgoing requests; HTTPS_PROXY and its like also set it")
    ca_file: Text | None = setting(None, "certificate authorities to trust as well; SSL_CERT_FILE adds some too")
    log_format: Annotated[Literal["console", "json"], Word] = setting("json", "by default console on a terminal")
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], Word] = setting(
        "info", "lowest level"
    )
    keep_alive: ShortTime = setting("75s", "how long an idle client connection is kept")
    dashboard: Annotated[Literal["on", "off"], Word] = setting("on", "the pages at `/`; off removes them")
    wait_max: ShortTime = setting("25s", "longest `wait` of a request; a longer one is shortened to it")
    serverless: Annotated[Literal["off", "on"], Word] = setting(
        "off", "on: the platform runs the process only while a request is open"
    )
    port: Port = setting("8080", "port that is bound; PORT also sets it")
    web_concurrency: ProcessCount | None = setting(None, "without effect, and logged: `boomerang serve` is one process")
    retry_schedules: SkipValidation[Mapping[str, tuple[timedelta, ...]]] = setting(
        {}, "RETRY_SCHEDULE_<HANDLER>: delays of one handler, by its name in capitals"
    )
    outgoing: SkipValidation[Mapping[str, str]] = secret({}, "variables of proxies and certificates")
    present: SkipValidation[Mapping[str, str]] = secret({}, "text of each given setting that handlers see")

    def client_limits(self) -> dict[str, ClientLimit]:
        """Return the limits for single clients that are set, by the name of the setting."""
        return {name.upper(): limit for name in CLIENT_LIMITS if (limit := getattr(self, name)) is not None}

    def budgets(self) -> list[str]:
        """Return the names of the settings that limit dollars."""
        names = ("budget", "client_budget")
        return [name.upper() for name in names if getattr(self, name) is not None]

    @property
    def off_peak_deadline(self) -> timedelta:
        """Return the time limit of off-peak tasks."""
        return max(self.task_deadline, OFF_PEAK_DEADLINE)


NAMES = tuple(name.upper() for name in Settings.model_fields if name not in {"outgoing", "present", "retry_schedules"})
"""Every setting, without the prefix."""

CHECKS = (
    Check(
        of=frozenset(name for name in Settings.model_fields if name.startswith("archive_")),
        faults=archive_faults,
    ),
    Check(
        of=frozenset({"api_keys", *CLIENT_LIMITS}),
        faults=lambda settings: unknown_clients(settings.client_limits(), settings.api_keys),
    ),
    Check(
        of=frozenset({"provider", "credit_price", "budget", "client_budget"}),
        faults=lambda settings: missing_credit_price(settings.provider, settings.credit_price, settings.budgets()),
    ),
)


def load_settings(
    environ: Mapping[str, str],
    *,
    dotenv: Path | None = None,
    needed: Collection[str] = (),
    terminal: bool = False,
    checks: Sequence[Check] = (),
) -> Settings:
    """Return the settings of `environ`, else of the file `dotenv` (which may be missing), else the defaults.

    `needed` are further names, without the prefix, that the installed handlers need. `terminal` selects the default log
    format. `checks` are further requirements of the caller. An empty value counts as not given. Raises BadSetting with
    a line for each fault, or for each line of the file that cannot be read. No line contains a value.
    """
    variables = read_variables(environ, dotenv)
    faults = unknown_names(variables, {*NAMES, *CLIENT_NAMES, *needed}) + private_names(needed, PRIVATE_NAMES)
    given = {name: text for name, value in variables.items() if (text := value.strip())}
    found = _find_variables(given)
    network = {name: given[name] for name in VARIABLES & given.keys()}
    texts: dict[str, Any] = {
        name: PLATFORM_ADDRESSES.get(source, "{}").format(given[source]) for name, source in found.items()
    }
    schedules, wrong = retry_schedules(given)
    texts |= {"retry_schedules": schedules, "outgoing": network, "present": _present(given)}
    texts.setdefault("log_format", "console" if terminal else "json")
    wrong += proxy_faults(network) + rate_faults(given, needed)
    try:
        settings, invalid = Settings.model_validate(texts), set[str]()
    except ValidationError as error:
        details = {str(each["loc"][0]): each for each in error.errors(include_url=False, include_input=False)}
        invalid = {*details} & {*found}
        faults += [f"{found[field]} {_message(field, each)}" for field, each in details.items() if field in found]
        # the other settings are checked with the defaults of the invalid ones
        settings = Settings.model_validate({name: value for name, value in texts.items() if name not in invalid})
    faults += wrong
    for check in (*CHECKS, *CONTRADICTIONS, *checks):
        faults += [] if check.of & invalid else check.faults(settings)
    if faults:
        raise BadSetting("\n".join(once_for_each(faults)))
    return settings


def _find_variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that sets each field; one with our prefix takes precedence over those of platforms."""
    provider = given.get(f"{PREFIX}PROVIDER", "vtrix").lower()
    keys = [f"{name.upper()}_API_KEY" for name in UPSTREAMS if name == provider]
    others = {name: [name] for name in PLAIN_NAMES}
    others |= {"UPSTREAM_KEY": keys, "PUBLIC_URL": list(PLATFORM_ADDRESSES)}
    sources = {name: [each for each in [PREFIX + name, *others.get(name, [])] if each in given] for name in NAMES}
    return {name.lower(): found[0] for name, found in sources.items() if found}


def _present(given: Mapping[str, str]) -> dict[str, str]:
    plain = {name: given[name] for name in PLAIN_NAMES if name in given}
    prefixed = {name.removeprefix(PREFIX): text for name, text in given.items() if name.startswith(PREFIX)}
    return {name: text for name, text in {**plain, **prefixed}.items() if name not in PRIVATE_NAMES | CLIENT_NAMES}


def _message(field: str, error: ErrorDetails) -> str:
    if "error" in error.get("ctx", {}):
        return str(error["ctx"]["error"])
    return f"must be one of {', '.join(get_args(Settings.model_fields[field].annotation))}"
