"""The settings of the handler `broker`, and what follows from BROKER_URL: the library, its extra, and the TLS trust."""

import re
import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import certifi
from pydantic import Field, SecretStr, field_validator, model_validator

from service import HandlerSettings

EVENTS = frozenset(
    {
        *("task.submitted", "task.progressed", "task.in_doubt", "task.completed", "task.failed", "task.canceled"),
        *("task.expired", "artifact.stored"),
    }
)
SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
REVERSE_DNS = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")

URL_FORMS = (
    "nats://HOST, tls://HOST (several with commas between), redis://HOST/0, rediss://HOST/0, amqp://HOST/VHOST, "
    "amqps://HOST/VHOST or sqs://REGION"
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of broker: its adapter `_broker_{extra}.py`, its extra, and the packages that the extra installs."""

    name: str
    extra: str
    packages: tuple[str, ...]


NATS = Kind(name="NATS", extra="nats", packages=("nats", "cloudevents"))
REDIS = Kind(name="Redis", extra="redis", packages=("redis", "cloudevents"))
RABBITMQ = Kind(name="RabbitMQ", extra="rabbitmq", packages=("aio_pika", "cloudevents"))
SQS = Kind(name="SQS", extra="sqs", packages=("aiobotocore", "cloudevents"))
KINDS = {"nats": NATS, "tls": NATS, "redis": REDIS, "rediss": REDIS, "amqp": RABBITMQ, "amqps": RABBITMQ, "sqs": SQS}


class Settings(HandlerSettings):
    """Where events are published, and as what."""

    broker_url: SecretStr = Field(description=f"address of the broker, with user and password: {URL_FORMS}")
    broker_subject: str = Field("boomerang", description="NATS: events go to the subject SUBJECT.task.completed")
    broker_stream: str = Field("boomerang", description="Redis: key of the stream")
    broker_max_length: int = Field(
        100_000, ge=1, description="Redis: entries that the stream keeps, roughly; older ones are deleted"
    )
    broker_exchange: str = Field("boomerang", description="RabbitMQ: durable topic exchange; the key is the event type")
    broker_queue: str | None = Field(None, description="SQS: name or address of the queue; .fifo keeps the order")
    broker_events: frozenset[str] = Field(EVENTS, description="event types that are published; all by default")
    broker_source: str | None = Field(None, description="`source` of the events; PUBLIC_URL, else urn:boomerang")
    broker_type_prefix: str = Field("dev.boomerang", description="what precedes the event type in `type`")
    public_url: str | None = Field(None, description="`source` of the events unless BROKER_SOURCE is set")
    ca_file: str | None = Field(None, description="certificate authorities to trust as well")

    @property
    def kind(self) -> Kind:
        """Return the kind of broker."""
        return KINDS[_scheme(self.broker_url.get_secret_value())]

    @property
    def source(self) -> str:
        """Return the `source` of all events."""
        return self.broker_source or self.public_url or "urn:boomerang"

    @field_validator("broker_url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        kind = KINDS.get(_scheme(text))
        if kind is None or not all(_is_address(each, kind) for each in (text.split(",") if kind is NATS else [text])):
            raise ValueError(
                f"must be {URL_FORMS}; user and password before @, with %40 %3A %2F %23 for @ : / # inside them"
            )
        if [name for name in kind.packages if find_spec(name) is None]:
            raise ValueError(
                f"is an address of {kind.name}, whose library is not installed: "
                f"pip install 'boomerang-service[{kind.extra}]'"
            )
        return url

    @field_validator("broker_subject")
    @classmethod
    def _check_subject(cls, subject: str) -> str:
        if not SUBJECT.fullmatch(subject):
            raise ValueError("must be letters, digits, - and _, with dots between, without wildcards")
        return subject

    @field_validator("broker_type_prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not REVERSE_DNS.fullmatch(prefix):
            raise ValueError("must be a reversed domain name like com.example")
        return prefix

    @field_validator("broker_events")
    @classmethod
    def _check_events(cls, events: frozenset[str]) -> frozenset[str]:
        if not events <= EVENTS:
            raise ValueError(f"must be names of events with commas between; known are {', '.join(sorted(EVENTS))}")
        return events

    @model_validator(mode="after")
    def _check_queue(self) -> Self:
        if self.kind is SQS and not self.broker_queue:
            raise ValueError("BOOMERANG_BROKER_QUEUE must name the queue, since BOOMERANG_BROKER_URL is sqs://")
        return self


@dataclass(frozen=True, kw_only=True)
class Address:
    """One server: `password` None with a `user` is a token of NATS."""

    url: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    query: dict[str, str]


def address_of(text: str) -> Address:
    """Return the parts of an address, user and password as they are meant, and its `url` without them."""
    parts = urlsplit(text.strip())
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return Address(
        url=plain.geturl(),
        host=parts.hostname or "",
        port=parts.port,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        query={name: values[-1] for name, values in parse_qs(parts.query).items()},
    )


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return what the service's own requests trust: the usual authorities, and those in CA_FILE. Reads files."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def _scheme(text: str) -> str:
    return text.partition("://")[0].strip().lower()


def _is_address(text: str, kind: Kind) -> bool:
    """Return whether a text has a scheme of `kind`, a host and a valid port, and nothing that a bare # or @ cut off."""
    try:
        parts: SplitResult = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return False
    inside = "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.netloc.count("@") > 1
    host = parts.hostname or ""
    return (
        KINDS.get(_scheme(text)) is kind
        and bool(host)
        and "," not in host
        and not (port == 0 or parts.fragment or inside)
    )
