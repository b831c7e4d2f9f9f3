"""Redis Streams: adds an entry with the event as CloudEvents JSON; deduplicated from Redis 8.6 on."""

import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import certifi
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry as NoRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from service import Retry

from ._broker_connection import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Connection
from ._broker_message import STRUCTURED_TYPE, Message
from ._broker_settings import Settings

ERRORS = (RedisError, OSError)

CONNECTIONS = 4
"""Connections of one process: each waits while the server writes its file."""

PRODUCER = "boomerang"
"""One producer for all processes: the next attempt of a delivery may be another one's."""

DEDUPLICATES_FROM = (8, 6)
UNKNOWN_SYNTAX = ("syntax error", "invalid stream id", "wrong number of arguments", "unknown", "unsupported")
"""In answers of what does not know a command with IDMP; nothing was added."""

log = logging.getLogger("boomerang.handlers.broker")

FIXES: tuple[tuple[type[ResponseError], str], ...] = (
    (OutOfMemoryError, "its memory is full: raise maxmemory, or lower BOOMERANG_BROKER_MAX_LENGTH"),
    (NoPermissionError, "the user needs the permission for it: ACL SETUSER USER ~{key} +xadd"),
    (MovedError, "it is a cluster, and the key {key} is on another node: give the address of one without a cluster"),
)
"""What to do about an answer."""

WRONG_TYPE = "the key {key} holds something else than a stream: set BOOMERANG_BROKER_STREAM to another key"


async def connect(settings: Settings) -> Connection:
    """Connect, and ask the server once for its version."""
    url = settings.broker_url.get_secret_value()
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=PUBLISH_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=PUBLISH_TIMEOUT,
        retry=NoRetry(NoBackoff(), 0),  # the library would add the entry twice
        decode_responses=True,
        protocol=2,
        **(_tls(settings.ca_file) if url.lower().startswith("rediss:") else {}),
    )
    client = Redis.from_pool(pool)
    try:
        deduplicates = await _version(client) >= DEDUPLICATES_FROM
    except BaseException:
        await client.aclose()
        raise
    return RedisConnection(client, settings.broker_stream, settings.broker_max_length, deduplicates=deduplicates)


def _tls(ca_file: str | None) -> dict[str, Any]:
    return {
        "ssl_ca_certs": certifi.where(),
        "ssl_ca_data": Path(ca_file).read_text("ascii", "ignore") if ca_file else None,
        "ssl_exclude_verify_flags": [ssl.VERIFY_X509_STRICT],
        "ssl_include_verify_flags": [ssl.VERIFY_X509_PARTIAL_CHAIN],
    }


async def _version(client: Redis) -> tuple[int, ...]:
    """Return the version of the server, (0,) if it refuses to name it, as to some users or behind a proxy."""
    try:
        text = str((await client.info("server")).get("redis_version", "0"))
    except ResponseError:
        return (0,)
    return tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:2])


class RedisConnection:
    """Some connections to one server."""

    def __init__(self, client: Redis, key: str, max_length: int, *, deduplicates: bool) -> None:
        self._client, self._key, self._max_length = client, key, max_length
        self._deduplicates = deduplicates
        self._demoted = False

    @property
    def alive(self) -> bool:
        """Whether the server is not a replica; lost connections are replaced by the library."""
        return not self._demoted

    async def publish(self, message: Message) -> None:
        """Add an entry; the server has it on its disk by then if it has `appendfsync always`."""
        fields: dict[Any, Any] = {
            "message_id": message.id,
            "content-type": STRUCTURED_TYPE,
            "event": message.structured(),
        }
        try:
            await self._add(fields, message.id)
        except ReadOnlyError as error:
            self._demoted = True
            raise Retry("Redis does not accept writes: the server is a replica now") from error
        except ResponseError as error:
            raise Retry(f"Redis did not add the message: {_fix(error, self._key)}") from error

    async def _add(self, fields: dict[Any, Any], message_id: str) -> None:
        """Add an entry; without deduplication where the server, or a proxy before it, does not know the command so."""
        add = partial(self._client.xadd, self._key, fields, maxlen=self._max_length, approximate=True)
        if self._deduplicates:
            try:
                await add(idmp=(PRODUCER, message_id.encode()))
            except ResponseError as error:
                if not any(text in str(error).lower() for text in UNKNOWN_SYNTAX):
                    raise
                self._deduplicates = False
                log.warning("redis does not deduplicate, although its version does: %s", error)
            else:
                return
        await add()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _fix(error: ResponseError, key: str) -> str:
    """Return what to do about an answer, or the answer itself."""
    if str(error).startswith("WRONGTYPE"):
        return WRONG_TYPE.format(key=key)
    return next((text.format(key=key) for kind, text in FIXES if isinstance(error, kind)), str(error))
