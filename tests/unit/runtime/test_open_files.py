"""The limit of open files, and the share of it that connections may take."""

import resource

import pytest

from service.api.connections import MAX_CONNECTIONS
from service.runtime import open_files


@pytest.mark.parametrize(
    ("limit", "connections"), [(1, 1), (64, 32), (1024, 512), (4096, 3072), (65_536, MAX_CONNECTIONS)]
)
def test_connections_leave_a_reserve(limit: int, connections: int) -> None:
    """Outgoing requests, the database and files always find a descriptor: connections take what the reserve leaves."""
    assert open_files.max_connections(limit) == connections


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        (1024, 20_000, 20_000),
        (1024, 1_048_576, open_files.MAX_FILES),
        (1024, resource.RLIM_INFINITY, open_files.MAX_FILES),
        (1024, 1024, 1024),
        (100_000, 1_048_576, 100_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, open_files.MAX_FILES),
    ],
)
def test_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, limit: int) -> None:
    """The soft limit is raised as far as is useful and allowed, and never lowered."""
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert open_files.raise_open_files_limit() == limit
    assert changed == ([(limit, hard)] if soft < limit else []) or soft == resource.RLIM_INFINITY


def test_refused_limit_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses the higher limit keeps the one it has."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 20_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert open_files.raise_open_files_limit() == 256
