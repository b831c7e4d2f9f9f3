"""`GET /v1/usage`: days, clients, sums and pages."""

from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from service.api import usage
from service.domain.usage import UsageRow, dollars
from tests.unit.api.fakes import KEYS, NOW, FakeApplication, app_of, client_of

DAY = NOW.date()


def a_row(day: date = DAY, client: str = "ann", **changes: Any) -> UsageRow:
    """Return a row."""
    fields: dict[str, Any] = {"tasks": 3, "cost": 0.1, "unpriced": 1, "without_result": 1, "without_result_cost": 0.05}
    return UsageRow(day=day, model="viduq2_pro_reference", client=client, **(fields | changes))


async def test_costs_are_summed_as_decimal_digits(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """0.1 and 0.2 are 0.3; the total is the sum of the rows."""
    fake.usage = [a_row(), a_row(client="bob", cost=0.2)]
    found = (await client.get(f"/v1/usage?from={DAY}&to={DAY}")).json()
    assert [row["cost"] for row in found["data"]] == ["0.1", "0.2"]
    sums = {"tasks": 6, "cost": "0.3", "unpriced": 2, "without_result": 2, "without_result_cost": "0.1"}
    assert (found["total"], found["next_cursor"]) == (sums, None)


async def test_client_sees_its_own_costs(fake: FakeApplication) -> None:
    """An admin sees all."""
    fake.usage = [a_row(), a_row(client="bob")]
    for key, clients in (("ann", ["ann"]), ("root", ["ann", "bob"])):
        async with client_of(app_of(fake, api_keys=KEYS), f"key-of-{key}") as client:
            found = (await client.get("/v1/usage")).json()
        assert [row["client"] for row in found["data"]] == clients


@pytest.mark.parametrize(
    ("query", "days", "count"),
    [
        ("", "2026-04-07 2026-05-06", 30),
        ("?from=2026-05-01", "2026-05-01 2026-05-06", 6),
        ("?to=2026-01-31", "2026-01-02 2026-01-31", 30),
        ("?from=2027-01-01", "2027-01-01 2027-01-01", 1),
        ("?from=2025-05-06&to=2026-05-06", "2025-05-06 2026-05-06", 366),
        ("?to=0001-01-01", "0001-01-01 0001-01-01", 1),
        ("?from=9999-12-31&to=9999-12-31", "9999-12-31 9999-12-31", 1),
    ],
)
async def test_days_are_the_given_ones(
    client: httpx.AsyncClient, fake: FakeApplication, query: str, days: str, count: int
) -> None:
    """Both ends count; without a beginning it is 30 days, without an end it ends today."""
    around = [date(2025, 1, 1) + timedelta(days=number) for number in range(1000)]
    fake.usage = [a_row(day) for day in (date.min, *around, date.max)]
    found = (await client.get(f"/v1/usage{query}")).json()
    assert (f"{found['from']} {found['to']}", len(fake.days)) == (days, count)


async def test_days_without_submissions_are_not_read(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A year costs what its days with tasks cost; a day with those of other clients alone is read."""
    busy = [date(2025, 6, 1), date(2025, 12, 31), DAY]
    fake.usage = [a_row(busy[0]), a_row(busy[1], client="bob"), a_row(busy[2])]
    found = (await client.get("/v1/usage?from=2025-05-06&to=2026-05-06")).json()
    assert (fake.days, len(found["data"]), found["next_cursor"]) == (busy, 3, None)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("from=2026-05-07&to=2026-05-06", "from"),
        ("from=2025-05-05&to=2026-05-06", "from"),
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("to=20260506", "to"),
        ("from=2026-05-06T00:00:00Z", "from"),
        ("since=2026-05-06", "since"),
        ("cursor=x", "cursor"),
        ("cursor=dXNhZ2U6MjAyMC0wMS0wMQ", "cursor"),
    ],
)
async def test_wrong_days_are_refused(client: httpx.AsyncClient, query: str, name: str) -> None:
    """Each fault is named."""
    response = await client.get(f"/v1/usage?{query}")
    assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, ["query", name])


async def test_long_report_comes_in_parts(
    client: httpx.AsyncClient, fake: FakeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part ends with a day; the cursor leads to the next one, and no day comes twice."""
    monkeypatch.setattr(usage, "MAX_ROWS", 2)
    fake.usage = [a_row(date(2026, 5, day)) for day in range(1, 6)]
    days: list[str] = []
    query = "from=2026-05-01&to=2026-05-06"
    cursor = ""
    for _ in range(3):
        found = (await client.get(f"/v1/usage?{query}{cursor}")).json()
        days += [row["day"] for row in found["data"]]
        cursor = f"&cursor={found['next_cursor']}"
    assert (days, found["next_cursor"]) == ([f"2026-05-0{day}" for day in range(1, 6)], None)


@pytest.mark.parametrize(
    ("amount", "text"), [(0.0, "0"), (0.35, "0.35"), (12.0, "12"), (0.1 + 0.2, "0.3"), (1e-9, "0"), (1e9, "1000000000")]
)
def test_dollars(amount: float, text: str) -> None:
    """Amounts are rounded to a millionth, without zeros at the end."""
    assert dollars(amount) == text
