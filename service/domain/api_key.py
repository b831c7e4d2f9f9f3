"""Who may call the API."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A client's key: `name` is the client, an `admin` sees every client's tasks."""

    name: str
    key: str = field(repr=False)
    admin: bool = False
