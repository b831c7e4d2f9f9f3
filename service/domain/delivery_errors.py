"""What a client may read about the errors of deliveries. Only computes."""

import re

UNREACHABLE = "the address could not be reached"
"""Begins the stored error of a delivery to an address that a client gave, and is all that the client sees of it."""

MAX_TEXT = 500
"""Characters of a stored error."""

REASON_OF_END = re.compile(r" \(not tried again: [^()]{1,100}\)\Z")
"""Ends the stored error of a dead letter: why it is not tried again."""

CLASS_NAME = re.compile(r"[A-Za-z_]\w{0,99}(?=:|\Z)")

NETWORK_ERRORS = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "WriteError", "WriteTimeout", "CloseError"),
        *("PoolTimeout", "NetworkError", "TransportError", "TimeoutException", "RequestError", "ProxyError"),
        *("ProtocolError", "LocalProtocolError", "RemoteProtocolError", "UnsupportedProtocol", "DecodingError"),
        *("EgressRefused", "LiteralRefused", "TimeoutError", "gaierror", "SSLError", "SSLCertVerificationError"),
        *("OSError", "ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError"),
        *("BrokenPipeError", "IncompleteReadError"),
    }
)
"""Classes of network errors: earlier releases stored them without the sentence above."""


def with_reason_of_end(error: str, reason: str) -> str:
    """Return the error of a dead letter: the last error, and why the delivery is not tried again."""
    end = f" (not tried again: {reason})"
    return error[: MAX_TEXT - len(end)] + end


def error_for_client(error: str | None, *, requested: bool) -> str | None:
    """Return what a client sees of the stored `error`, which is the class and the message.

    `requested`: the client's own `notify` named the handler. Then the client sees the message, but of every network
    error the same sentence, so that nobody can explore our network. Otherwise it sees the class alone. Why a dead
    letter is not tried again is no secret.
    """
    if error is None:
        return None
    end = REASON_OF_END.search(error)
    return _visible_error(error[: end.start()] if end else error, requested=requested) + (end[0] if end else "")


def _visible_error(error: str, *, requested: bool) -> str:
    name = CLASS_NAME.match(error)
    if not requested:
        return name[0] if name else UNREACHABLE if error.startswith(UNREACHABLE) else "Error"
    if error.startswith(UNREACHABLE) or (name and name[0] in NETWORK_ERRORS):
        return UNREACHABLE
    return error
