"""A world without an egress guard: what is written may be dialled."""


def any_address(_url: str) -> None:
    """Refuse no address."""
