"""What the receiver of an attempt answered, as it is kept for the history: bounded, readable, without secrets."""

import codecs
import re
from collections.abc import Collection

from service.domain.ports.queues import ReceiverAnswer
from service.domain.sealed_targets import address_secrets, is_secret_address
from service.domain.task import Json
from service.domain.webhook_secrets import PREFIX

MAX_ANSWER = 1024
"""Bytes of an answer's body that are kept."""

MIN_SECRET = 6
"""Characters from which a value of a header is masked: shorter ones are words and numbers of every text."""

MASK = "…"
SIGNATURE = re.compile(r"v1a?,[A-Za-z0-9+/_=-]{16,}")


def receiver_answer(status: int, body: bytes, secrets: Collection[str] = ()) -> ReceiverAnswer:
    """Return an answer with the first MAX_ANSWER bytes of its body as text.

    What is not UTF-8 becomes U+FFFD, and control characters but for line breaks and tabs become blanks. A receiver may
    send back what it was sent: `secrets` and signatures are masked. One that the end of the text cuts is masked too.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(body[:MAX_ANSWER], final=len(body) <= MAX_ANSWER)
    for secret in sorted({each for each in secrets if each}, key=len, reverse=True):
        text = text.replace(secret, MASK)
        for length in range(min(len(secret), len(text)), MIN_SECRET - 1, -1):
            if len(body) > MAX_ANSWER and text.endswith(secret[:length]):
                text = text[:-length] + MASK
                break
    text = SIGNATURE.sub(f"v1,{MASK}", text)
    return ReceiverAnswer(status=status, body="".join(each if _is_shown(each) else " " for each in text))


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def target_secrets(target: Json) -> list[str]:
    """Return what no error and no answer may show of a target: its secrets, and the values of its headers.

    Of an endpoint that is its address, too, if it is a secret one: others than its client read errors and answers.
    """
    own, headers = target.get("secret"), target.get("headers")
    secrets = [str(each) for each in ([own] if own else []) + list(target.get("secrets") or ())]
    values = [str(each) for each in headers.values()] if isinstance(headers, dict) else []
    values = [each for each in values if len(each) >= MIN_SECRET]
    url = target.get("url") if "endpoint" in target else None
    address = address_secrets(url) if isinstance(url, str) and is_secret_address(url) else []
    return [*secrets, *(each.removeprefix(PREFIX) for each in secrets), *values, *address]
