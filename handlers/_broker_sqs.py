"""SQS: sends the event as CloudEvents JSON; a queue `.fifo` keeps the order of each task and deduplicates 5 minutes."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import certifi
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from service import Retry

from ._broker_connection import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Connection
from ._broker_message import STRUCTURED_TYPE, Message
from ._broker_settings import Address, Settings, address_of

ERRORS = (BotoCoreError, ClientError, OSError)

MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})


async def connect(settings: Settings) -> Connection:
    """Open a client for the region in BROKER_URL, and find the queue."""
    address, queue = address_of(settings.broker_url.get_secret_value()), settings.broker_queue or ""
    stack = AsyncExitStack()
    try:
        verify = stack.enter_context(_authorities(settings.ca_file)) if settings.ca_file else None
        client = await stack.enter_async_context(
            get_session().create_client("sqs", config=_config(), **_parameters(address), verify=verify)
        )
        try:
            url = queue if "://" in queue else (await client.get_queue_url(QueueName=queue))["QueueUrl"]
        except ClientError as error:
            raise _failure(error, queue) from error
    except BaseException:
        await stack.aclose()
        raise
    return SqsConnection(stack, client, url, queue)


def _config() -> AioConfig:
    return AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=PUBLISH_TIMEOUT,
        retries={"total_max_attempts": 1},  # the delivery's schedule repeats it
        tcp_keepalive=True,
    )


@contextmanager
def _authorities(ca_file: str) -> Iterator[str]:
    """Yield a file with the usual authorities and those in CA_FILE: the library takes one file in place of its own."""
    with NamedTemporaryFile(suffix=".pem") as file:
        for path in (certifi.where(), ca_file):
            file.write(Path(path).read_bytes() + b"\n")
        file.flush()
        yield file.name


def _parameters(address: Address) -> dict[str, Any]:
    """Return region and endpoint; without a user the usual sources of AWS give the credentials.

    Given keys would end when they expire, so those of a role are left to the library.
    """
    found: dict[str, Any] = {"region_name": address.host}
    if endpoint := address.query.get("endpoint_url"):
        found["endpoint_url"] = endpoint
    if address.user:
        found |= {"aws_access_key_id": address.user, "aws_secret_access_key": address.password or ""}
    return found


class SqsConnection:
    """A client, whose HTTP connections the library keeps."""

    def __init__(self, stack: AsyncExitStack, client: Any, url: str, queue: str) -> None:
        self._stack, self._client, self._url, self._queue = stack, client, url, queue

    @property
    def alive(self) -> bool:
        """Always true: each message is a request."""
        return True

    async def publish(self, message: Message) -> None:
        """Send a message; that of a FIFO queue has the task as its group."""
        fifo = {"MessageGroupId": message.task_id, "MessageDeduplicationId": message.id}
        texts = {"content-type": STRUCTURED_TYPE, "message_id": message.id, "type": message.type}
        try:
            await self._client.send_message(
                QueueUrl=self._url,
                MessageBody=message.structured().decode(),
                MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in texts.items()},
                **(fifo if self._url.endswith(".fifo") else {}),
            )
        except ClientError as error:
            raise _failure(error, self._queue) from error

    async def close(self) -> None:
        """Close its HTTP connections."""
        await self._stack.aclose()


def _failure(error: ClientError, queue: str) -> Retry:
    details = error.response.get("Error", {})
    if details.get("Code") in MISSING:
        fix = f"create it with `aws sqs create-queue --queue-name {queue.rpartition('/')[2]}`"
        return Retry(f"the queue does not exist: {fix}, or set BOOMERANG_BROKER_QUEUE")
    return Retry(f"SQS refused the message: {details.get('Code')}: {details.get('Message')}")
