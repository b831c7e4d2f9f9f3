"""Tests without an egress guard: every address is allowed."""


def any_address(_url: str) -> None:
    """Return None: no address is refused."""
