"""Vidu's signature of a callback: what it covers, how old it may be, and which forms are refused."""

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.callback import read_callback
from service.domain.errors import BadSetting, BadSignature
from service.domain.task import TaskId
from service.domain.tokens import Tokens
from service.providers.callback_bodies import read_fact
from service.providers.vidu.signature import ViduVerifier, sign

NOW = datetime(2025, 5, 6, 12, 9, 42, tzinfo=UTC)
DATE = "Tue, 06 May 2025 12:09:42 GMT"
NONCE = "123e4567-e89b-12d3-a456-426614174000"
TOKENS = Tokens(["key"])
TOKEN = TOKENS.callback_token(TaskId("0198c2aa"), 2, NOW + timedelta(hours=1))
BODY = json.dumps({"id": "8823456", "state": "success"}).encode()
ADDRESS = f"https://boomerang.example/callbacks/{TOKEN}"


def signed(key: str = "vda_key", date: str = DATE, url: str = ADDRESS, **changed: str) -> dict[str, str]:
    """Return the headers of a signed callback."""
    signature = sign(key, url=url, headers={"Date": date, "x-request-nonce": NONCE})
    headers = {
        "Date": date,
        "X-HMAC-SIGNATURE": signature,
        "X-HMAC-ALGORITHM": "hmac-sha256",
        "X-HMAC-ACCESS-KEY": "vidu",
        "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
        "x-request-nonce": NONCE,
    }
    return headers | {name.replace("_", "-"): value for name, value in changed.items()}


def verified(headers: Mapping[str, str], *keys: str) -> str | None:
    """Verify the headers of a callback that is received now."""
    return ViduVerifier(keys or ("vda_key",), ADDRESS).verify(headers, NOW)


VECTORS = [
    ("test-secret-key", "/vidu/callback?name=james&age=36", "9JZa1ZLjkWVos5QQzjjviqAsFE1L9yQw/LsnAXZFIjo="),
    ("test-secret-key", "/vidu/callback", "jhzI9zKhU/cwgLJwCvLfI/XzmOADYPhhmaphzC5VyTI="),
    ("test-secret-key", "", "v2uNaRe1ImzhGMnYvlQ9G9UHxUy6LvlAQrF2dbpo0fE="),
    ("test-secret-key", "/", "v2uNaRe1ImzhGMnYvlQ9G9UHxUy6LvlAQrF2dbpo0fE="),
    ("vda_example_token", "/vidu/callback?name=james&age=36", "INnatQoGaiFwPNg+DFnhTgTgGD7k+cwq4RegrQ3hRzI="),
    ("test-secret-key", "/vidu/callback?age=36&name=james", "6QNLf65/kH+R9ocbTXoNbi5LvbyKw4u5V4yK9Zx0pcA="),
]


@pytest.mark.parametrize(("key", "path", "signature"), VECTORS)
def test_signature_matches_the_vectors(key: str, path: str, signature: str) -> None:
    """Signing and verifying agree with the computed vectors, query strings as written."""
    url = f"https://host.example{path}"
    assert sign(key, url=url, headers={"date": DATE, "X-Request-Nonce": NONCE}) == signature
    headers = signed() | {"X-HMAC-SIGNATURE": signature}
    assert ViduVerifier([key], url).verify(headers, NOW) == NONCE


def test_signed_callback_has_its_nonce() -> None:
    """The nonce of a valid signature is returned, to be stored."""
    claim = TOKENS.read_callback_token(TOKEN, NOW)
    verifier = ViduVerifier(["new", "vda_key"], ADDRESS)
    callback = read_callback(claim, signed(), BODY, NOW, tokens=TOKENS, read_fact=read_fact, verifier=verifier)
    assert callback.nonce == NONCE


def test_header_names_are_case_insensitive() -> None:
    """Proxies change the case of header names; the signature is valid all the same."""
    assert verified({name.lower(): value for name, value in signed().items()}) == NONCE
    assert verified({name.upper(): value for name, value in signed().items()}) == NONCE


@pytest.mark.parametrize("missing", sorted(signed()))
def test_no_signature_header_may_be_missing(missing: str) -> None:
    """With a verifier, a callback without any one of the headers is refused."""
    with pytest.raises(BadSignature):
        verified({name: value for name, value in signed().items() if name != missing})


@pytest.mark.parametrize(
    "headers",
    [
        signed("another key"),
        signed(url=ADDRESS + "x"),
        signed(url=ADDRESS + "?a=1"),
        signed(X_HMAC_SIGNATURE="AAAA"),
        signed(X_HMAC_SIGNATURE="é" * 44),
        signed(X_HMAC_SIGNATURE="x" * 10_000),
        signed(X_HMAC_ALGORITHM="none"),
        signed(X_HMAC_ACCESS_KEY="me"),
        signed(X_HMAC_SIGNED_HEADERS="Date"),
        signed(X_HMAC_SIGNED_HEADERS="Date;x-request-nonce" + ";a" * 100),
        signed(x_request_nonce="another"),
        signed(Date="yesterday"),
        signed(Date="Tue, 06 May 2025 12:09:43 GMT"),
    ],
    ids=range(13),
)
def test_wrong_signature_values_are_refused(headers: dict[str, str]) -> None:
    """Another key, address, nonce, date, algorithm or list of headers is refused."""
    changed = {name: value for name, value in headers.items() if name not in ("Date", "x-request-nonce")}
    given = signed() | changed | {name: headers[name] for name in ("Date", "x-request-nonce")}
    with pytest.raises(BadSignature):
        verified(given)


@pytest.mark.parametrize(
    ("names", "good"),
    [
        ("Date;x-request-nonce", True),
        ("x-request-nonce;Date", True),
        ("date;X-Request-Nonce;" + ";".join("abcdefghijklmn"), True),
        ("Date", False),
        ("x-request-nonce", False),
        ("Date;content-type", False),
        ("Date;x-request-nonce;" + ";".join("abcdefghijklmno"), False),
    ],
)
def test_signature_covers_date_and_nonce(names: str, good: bool) -> None:
    """A valid signature that leaves one of them out is refused: anybody could change it. So are 17 signed headers."""
    headers = signed(X_HMAC_SIGNED_HEADERS=names)
    covered = {name: value for name, value in headers.items() if name != "X-HMAC-SIGNATURE"}
    headers["X-HMAC-SIGNATURE"] = _signed_anyway(covered, names)
    if good:
        assert verified(headers) == NONCE
        return
    with pytest.raises(BadSignature):
        verified(headers)


def _signed_anyway(headers: Mapping[str, str], names: str) -> str:
    """Return the signature over the named headers, as written in Vidu's documentation, whichever they are."""
    lowered = {name.lower(): value for name, value in headers.items()}
    lines = ["POST", f"/callbacks/{TOKEN}", "", "vidu", headers["Date"]]
    lines += [f"{name}:{lowered.get(name.lower(), '')}" for name in names.split(";")]
    text = "".join(f"{line}\n" for line in lines)
    return base64.b64encode(hmac.digest(b"vda_key", text.encode(), "sha256")).decode()


@pytest.mark.parametrize(
    ("date", "good"),
    [
        ("Tue, 06 May 2025 12:14:42 GMT", True),
        ("Tue, 06 May 2025 12:04:42 GMT", True),
        ("Tue, 06 May 2025 12:14:43 GMT", False),
        ("Tue, 06 May 2025 12:04:41 GMT", False),
        ("Tue, 06 May 99999 12:04:41 GMT", False),
    ],
)
def test_date_is_bounded(date: str, good: bool) -> None:
    """A signature is valid for five minutes before and after, so that no old callback can be replayed."""
    if good:
        assert verified(signed(date=date)) == NONCE
        return
    with pytest.raises(BadSignature, match="Date"):
        verified(signed(date=date))


@pytest.mark.parametrize("keys", [[], [""]])
def test_verifier_without_a_key_is_a_bad_setting(keys: list[str]) -> None:
    """No verifier accepts everything by accident."""
    with pytest.raises(BadSetting):
        ViduVerifier(keys, ADDRESS)
