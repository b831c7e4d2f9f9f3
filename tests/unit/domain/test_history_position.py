"""Positions in a history as text."""

from datetime import timedelta

import pytest

from service.domain.history_position import EPOCH, HistoryKind, HistoryPosition, parse_position

AT = EPOCH + timedelta(days=20000, microseconds=7)
POSITIONS = {
    HistoryKind.CREATED: "",
    HistoryKind.WAIT: "client_budget",
    HistoryKind.EVENT: "17",
    HistoryKind.CALLBACK: "a" * 64,
    HistoryKind.REFUSED_CALLBACK: "expired",
    HistoryKind.POLL: "9" * 18,
    HistoryKind.DELIVERY: "0198c2-x",
    HistoryKind.ATTEMPT: "0198c2-x.12",
    HistoryKind.WAITING: "",
}


@pytest.mark.parametrize("kind", HistoryKind)
def test_text_states_the_position(kind: HistoryKind) -> None:
    """Each kind's position is read again as it was."""
    position = HistoryPosition(at=AT, kind=kind, key=POSITIONS[kind])
    assert parse_position(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1746533382123-1",
        "1-9-",
        "1-0-x",
        "1-2-x",
        "1-2-",
        "1-2-1.5",
        f"1-2-{10**18}",
        "1-5--1",
        "1-6-a b",
        f"1-6-{'a' * 65}",
        "1-7-a",
        "1-7-a.x",
        f"1-7-a.{10**9}",
        "-1-0-",
        f"{10**17}-0-",
        "\u0661-0-",
        "1-0-\n",
    ],
)
def test_other_text_is_no_position(text: str) -> None:
    """Nothing that a column does not take, and no cursor of an earlier release."""
    assert parse_position(text) is None
