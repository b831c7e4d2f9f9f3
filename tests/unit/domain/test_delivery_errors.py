"""What a client reads about the errors of deliveries."""

import pytest

from service.domain.delivery_errors import UNREACHABLE, error_for_client

NETWORK = [
    f"{UNREACHABLE}: ConnectError: [Errno 111] Connection refused",
    f"{UNREACHABLE}: EgressRefused: db.internal is at 10.0.0.7, which is not public",
    f"{UNREACHABLE}: TimeoutError: no end within 15 s",
    "ConnectError: All connection attempts failed",
    "ConnectTimeout",
    "EgressRefused: db.internal is at 10.0.0.7, which is not public",
    "LiteralRefused: 10.0.0.7 is at 10.0.0.7, which is not public",
    "TimeoutError: no end within 15 s",
    "RemoteProtocolError: illegal status line: SSH-2.0-OpenSSH_9.6",
]


@pytest.mark.parametrize("error", NETWORK)
def test_every_network_error_is_one_sentence(error: str) -> None:
    """Refused, timed out, internal and unreadable are the same, also in rows of earlier releases."""
    assert error_for_client(error, requested=True) == UNREACHABLE


@pytest.mark.parametrize("error", ["Retry: the receiver answered 500", "Reject: the receiver answered 410", None])
def test_answers_of_the_own_receiver_are_shown(error: str | None) -> None:
    """What the client's own receiver answered is not about our network."""
    assert error_for_client(error, requested=True) == error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("HTTPStatusError: the address answered 404", "HTTPStatusError"),
        ("KeyError: 'token'", "KeyError"),
        ("CancelledError", "CancelledError"),
        (NETWORK[0], UNREACHABLE),
        ("an older text: with a secret", "Error"),
        ("", "Error"),
        (None, None),
    ],
)
def test_errors_of_the_operators_handlers_are_their_class(error: str | None, shown: str | None) -> None:
    """The message of a handler that the client did not name may show what is inside."""
    assert error_for_client(error, requested=False) == shown
