"""The digest of a JSON value, whatever its spelling."""

from collections.abc import Callable
from hashlib import sha256

PIECE = 256 * 1024
"""Number of characters that are encoded at once."""

Update = Callable[[bytes], object]


def json_digest(value: object) -> str:
    """Return the SHA-256 of a parsed JSON value, in hexadecimal.

    Equal are values that differ in white space, escapes, the order of keys, or the spelling of a number: `1`, `1.0` and
    `1e0` are one number in JSON (RFC 8259; RFC 8785 writes it `1`), and a client that encodes a request once more may
    change its spelling. An integer is compared in all its digits, other numbers as the float that is read. The order of
    lists counts, and so does whether a key is there. The value has no lone surrogates.
    """
    digest = sha256()
    _add(value, digest.update)
    return digest.hexdigest()


def _add(value: object, update: Update) -> None:
    """Pass the bytes of `value` to `update`. Each part begins with its kind and length, so none reads like another."""
    if isinstance(value, str):
        update(b"s%d:" % len(value))
        for begin in range(0, len(value), PIECE):  # no second copy of a large picture
            update(value[begin : begin + PIECE].encode())
    elif isinstance(value, dict):
        update(b"o%d:" % len(value))
        for name in sorted(value):
            _add(name, update)
            _add(value[name], update)
    elif isinstance(value, list):
        update(b"l%d:" % len(value))
        for inner in value:
            _add(inner, update)
    elif value is None or isinstance(value, bool):
        update(b"c%r:" % value)
    else:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        # hexadecimal: the decimal digits of 1e308 take 20 times as long
        update(b"n%x:" % number if isinstance(number, int) else b"n%r:" % number)
