"""Vidu's signature: the published rules on test vectors."""

from datetime import UTC, datetime

import pytest

from service.sandbox.signing import signature, signed_headers

_SIGNED = {"Date": "Tue, 06 May 2025 12:09:42 GMT", "x-request-nonce": "123e4567-e89b-12d3-a456-426614174000"}
_HOST = "https://service.test"


@pytest.mark.parametrize(
    ("key", "url", "expected"),
    [
        ("test-secret-key", "/vidu/callback?name=james&age=36", "9JZa1ZLjkWVos5QQzjjviqAsFE1L9yQw/LsnAXZFIjo="),
        ("test-secret-key", "/vidu/callback", "jhzI9zKhU/cwgLJwCvLfI/XzmOADYPhhmaphzC5VyTI="),
        ("test-secret-key", "/", "v2uNaRe1ImzhGMnYvlQ9G9UHxUy6LvlAQrF2dbpo0fE="),
        ("test-secret-key", "", "v2uNaRe1ImzhGMnYvlQ9G9UHxUy6LvlAQrF2dbpo0fE="),
        ("vda_example_token", "/vidu/callback?name=james&age=36", "INnatQoGaiFwPNg+DFnhTgTgGD7k+cwq4RegrQ3hRzI="),
        ("test-secret-key", "/vidu/callback?age=36&name=james", "6QNLf65/kH+R9ocbTXoNbi5LvbyKw4u5V4yK9Zx0pcA="),
    ],
)
def test_known_signatures(key: str, url: str, expected: str) -> None:
    """The signature depends on the key, and on path and query as written."""
    assert signature(key, _HOST + url, _SIGNED) == expected


def test_all_headers_are_sent() -> None:
    """A callback carries the algorithm, the access key, the signed names and the date in HTTP form."""
    at = datetime(2025, 5, 6, 12, 9, 42, tzinfo=UTC)
    headers = signed_headers("test-secret-key", f"{_HOST}/", nonce=_SIGNED["x-request-nonce"], at=at)
    assert headers == {
        **_SIGNED,
        "X-HMAC-ALGORITHM": "hmac-sha256",
        "X-HMAC-ACCESS-KEY": "vidu",
        "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
        "X-HMAC-SIGNATURE": "v2uNaRe1ImzhGMnYvlQ9G9UHxUy6LvlAQrF2dbpo0fE=",
    }
