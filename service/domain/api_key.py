"""API keys."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """The key of the client `name`.

    An `admin` sees and changes the tasks of every client; a `read_only` key sees them and changes nothing.
    """

    name: str
    key: str = field(repr=False)
    admin: bool = False
    read_only: bool = False
