"""All targets by name, and their corpus."""

import ast
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import signed_inputs as signed
from tests.fuzz import written_inputs as written

Target = Callable[[bytes], None]
CORPUS = Path(__file__).parent / "corpus"
TARGETS: dict[str, Target] = {
    "body": written.body,
    "callback": signed.callback,
    "callback_token": signed.callback_token,
    "data_uri": written.data_uri,
    "egress": written.egress,
    "media": written.media,
    "parameters": written.parameters,
    "payload_token": signed.payload_token,
    "query": written.query,
    "setting": written.setting,
    "switches": written.switches,
    "upstream_body": written.upstream_body,
    "vidu_signature": signed.vidu_signature,
    "webhook_secret": signed.webhook_secret,
}


def read_corpus(name: str) -> list[bytes]:
    """Return the corpus of a target; its file has one bytes literal per line."""
    file = CORPUS / f"{name}.txt"
    lines = file.read_text("ascii").splitlines() if file.exists() else []
    return [bytes(ast.literal_eval(line)) for line in lines]


def write_corpus(name: str, inputs: list[bytes]) -> None:
    """Write the corpus of a target, without duplicates, short inputs first."""
    CORPUS.mkdir(exist_ok=True)
    lines = [repr(one) for one in sorted(set(inputs), key=lambda one: (len(one), one))]
    (CORPUS / f"{name}.txt").write_text("\n".join(lines) + "\n", "ascii")
