"""Answers of receivers as they are kept: bounded, readable, without secrets."""

import pytest

from service.deliveries.receiver_answer import MAX_ANSWER, receiver_answer, target_secrets
from tests.support.endpoint_builders import OTHER_SECRET, SECRET


def test_first_kibibyte_is_kept() -> None:
    """A character that the end cuts is dropped, not replaced."""
    assert receiver_answer(200, b"x" * 5000).body == "x" * MAX_ANSWER
    assert receiver_answer(200, b"x" * (MAX_ANSWER - 1) + "é".encode() * 9).body == "x" * (MAX_ANSWER - 1)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff\xfe\x00", "\ufffd\ufffd "),
        (b"a\x1b[31mred\r\n\tb", "a [31mred \n\tb"),
        ("\u202eevil".encode(), " evil"),
        (b"", ""),
    ],
)
def test_what_cannot_be_shown_is_replaced(body: bytes, text: str) -> None:
    """Control characters, also those that turn a text around, become blanks; what is not UTF-8 becomes U+FFFD."""
    assert receiver_answer(200, body).body == text


def test_secrets_that_a_receiver_sends_back_are_masked() -> None:
    """The secrets with and without their prefix, the values of headers, and signatures."""
    target = {"secrets": [SECRET, OTHER_SECRET], "headers": {"Authorization": "Bearer of-the-shop", "X": "on"}}
    secrets = target_secrets(target)
    sent = f"{SECRET} {OTHER_SECRET.removeprefix('whsec_')} Bearer of-the-shop on v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9"
    assert receiver_answer(200, sent.encode(), secrets).body == "… … … on v1,…"


def test_short_values_of_headers_mask_nothing() -> None:
    """A header with the value 5 must not hide the status in an error or an answer."""
    assert target_secrets({"headers": {"X-Level": "5", "X-Env": "prod"}}) == []


def test_secret_that_the_end_cuts_is_masked() -> None:
    """The beginning of a secret at the end of what is kept does not stay."""
    body = b"x" * (MAX_ANSWER - 10) + SECRET.encode()
    assert receiver_answer(200, body, target_secrets({"secrets": [SECRET]})).body == "x" * (MAX_ANSWER - 10) + "…"


def test_secret_address_of_an_endpoint_is_masked() -> None:
    """Admins and readers see its answers, and no more of its address than the host; a plain address hides no word."""
    url = "https://hooks.example.org/teams/of-the-shop?tenant=7&token=very-private-token"
    secrets = target_secrets({"endpoint": "ep_1", "url": url})
    sent = f"Cannot POST /teams/of-the-shop?tenant=7&token=very-private-token: very-private-token {url}"
    assert receiver_answer(404, sent.encode(), secrets).body == "Cannot POST …?…: … …"
    assert target_secrets({"endpoint": "ep_1", "url": "https://hooks.example.org/teams/of-the-shop"}) == []
    assert "pass-of-shop" in target_secrets({"endpoint": "ep_1", "url": "https://u:pass-of-shop@example.org/x"})
