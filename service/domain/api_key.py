"""API keys."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """The key of the client `name`; an `admin` sees the tasks of every client."""

    name: str
    key: str = field(repr=False)
    admin: bool = False
