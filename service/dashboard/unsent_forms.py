"""Forms of a session that had ended when they were sent: what was typed is kept, and sent when its author says so.

A kept form is a text, which travels in a hidden field of the page to sign in. Only forms of pages of this service are
kept, and none is sent without another press: whoever signs in sees what it is.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from service.dashboard.request_checks import own_path
from service.dashboard.uploads import KEPT, MAX_KEPT, Upload

TOKEN = "form_token"  # noqa: S105 - the name of a field
MAX_TEXT = 200_000
"""Bytes of a kept form in the form to sign in."""

SHOWN = 200
"""Characters of a value that the page shows."""

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class UnsentForm:
    """A form for the page at `path`; `lost` are the names of files that were too large to keep."""

    path: str
    pairs: tuple[tuple[str, str], ...]
    lost: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return it as one text."""
        return json.dumps([self.path, self.pairs], ensure_ascii=False)

    @property
    def is_small(self) -> bool:
        """Return whether the text fits into a field of the form to sign in."""
        return len(quote_plus(self.text, errors="replace")) <= MAX_TEXT

    @property
    def shown(self) -> list[tuple[str, str]]:
        """Return what a person typed, shortened: not what is hidden in every form."""
        hidden = {"send_id", "back", "next", "from", "cursor"}
        named = [(name.removesuffix(KEPT), value.partition("|data:")[0]) for name, value in self.pairs]
        return [(name, value[:SHOWN]) for name, value in named if value and name not in hidden]


def unsent_form(path: str, pairs: Pairs, files: Sequence[tuple[str, Upload]] = ()) -> UnsentForm:
    """Return the form with its files as the hidden fields of a form for a new task, as far as MAX_KEPT allows."""
    kept, lost = [(name, value) for name, value in pairs if name != TOKEN], list[str]()
    left = MAX_KEPT
    for name, file in files:
        left -= len(file.data) * 4 // 3
        if left < 0:
            lost.append(file.name)
        else:
            kept.append((name + KEPT, f"{quote(file.name)}|{file.data_uri()}"))
    return UnsentForm(path=own_path(path), pairs=tuple(kept), lost=tuple(lost))


def read_unsent(text: str) -> UnsentForm | None:
    """Return the form of a text, None for one that is none."""
    try:
        path, pairs = json.loads(text or "null")
        found = UnsentForm(path=own_path(str(path), ""), pairs=tuple((str(name), str(value)) for name, value in pairs))
    except (ValueError, TypeError, RecursionError):
        return None
    return found if found.path else None
