"""Connecting to PostgreSQL: every host of the address and every address of a host is tried, a silent one briefly."""

import asyncio
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from service.storage.pg_address import PostgresAddress
from service.storage.pg_driver import Cursor, Session

NEXT_AFTER = 0.5
"""Seconds without an answer after which the next address is tried too; the first connection that stands is used."""

FULL = re.compile("too many (connections|clients)|remaining connection slots|no more connections allowed")
"""What servers and poolers say when they have no free connection; the driver has no code of such an error."""

Parameters = dict[str, Any]


async def connect(at: PostgresAddress) -> Session:
    """Return a new connection whose statements commit by themselves; raises an error of the driver."""
    attempts = [one for host in _hosts(at.parameters) for one in await _addresses(host)]
    if len(attempts) == 1:
        return await _open(attempts[0])
    running: set[asyncio.Task[Session]] = set()
    errors: list[psycopg.Error] = []
    try:
        while attempts or running:
            if attempts:
                running.add(asyncio.create_task(_open(attempts.pop(0))))
            done, running = await asyncio.wait(
                running, timeout=NEXT_AFTER if attempts else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if (error := task.exception()) is None:
                    running |= done - {task}
                    return task.result()
                if not isinstance(error, psycopg.Error):
                    raise error
                errors.append(error)
        raise errors[-1]
    finally:
        await _discard(running)


def is_full(error: Exception) -> bool:
    """Return whether a server has refused a connection because it has no free one."""
    return FULL.search(str(error)) is not None


def is_refusal(error: Exception) -> bool:
    """Return whether a server has answered the attempt to connect, even if with a refusal."""
    return "FATAL" in str(error)


async def _open(parameters: Parameters) -> Session:
    return await Session.connect(**parameters, autocommit=True, prepare_threshold=None, cursor_factory=Cursor)


async def _discard(running: Collection[asyncio.Task[Session]]) -> None:
    """End attempts that are no longer needed, and close their connections."""
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, Session):
            await outcome.close()


def _hosts(parameters: Mapping[str, str]) -> list[Parameters]:
    """Return the parameters for each host of a list; raises OperationalError if the lists do not fit."""
    lists = {name: parameters[name].split(",") for name in ("host", "hostaddr", "port") if parameters.get(name)}
    count = max([len(values) for name, values in lists.items() if name != "port"], default=1)
    if any(len(values) not in ({1, count} if name == "port" else {count}) for name, values in lists.items()):
        raise psycopg.OperationalError("the address has other numbers of hosts than of ports")
    each = {name: values * count if len(values) == 1 else values for name, values in lists.items()}
    return [{**parameters, **{name: values[number] for name, values in each.items()}} for number in range(count)]


async def _addresses(one: Parameters) -> list[Parameters]:
    """Return the parameters for each address of a host name; the driver reports a name that is unknown."""
    host, port = one.get("host", ""), one.get("port") or "5432"
    if not host or host.startswith(("/", "@")) or one.get("hostaddr"):
        return [one]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # ValueError: a port or a name that cannot be
        return [one]
    return [{**one, "hostaddr": str(address[0])} for address in dict.fromkeys(entry[4] for entry in found)] or [one]
