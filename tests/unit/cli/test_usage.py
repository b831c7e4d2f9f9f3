"""`boomerang usage` against a fake service over real HTTP."""

import csv
import io
import json
from collections.abc import Iterator

import pytest

from tests.unit.cli.fake_service import FakeService, Json, fake_service, run


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def sums(tasks: int, cost: str, **more: object) -> Json:
    """Return the sums of a row or of a report."""
    return {"tasks": tasks, "cost": cost, "unpriced": 0, "without_result": 0, "without_result_cost": "0", **more}


def report(*rows: Json, total: Json, cursor: str | None = None) -> Json:
    """Return a page of the report."""
    return {"from": "2026-05-01", "to": "2026-05-03", "data": [*rows], "total": total, "next_cursor": cursor}


def entry(day: str, client: str = "shop", **more: object) -> Json:
    """Return a row of the report."""
    return {"day": day, "model": "viduq2_pro_reference", "client": client, **sums(2, "0.70"), **more}


def test_table_and_total(service: FakeService) -> None:
    """Each day has a row, the last one is the total, and what was paid without a result stands out."""
    lost: Json = {"without_result": 1, "without_result_cost": "0.35"}
    service.respond_to(
        "GET /v1/usage", (200, report(entry("2026-05-01"), entry("2026-05-02", **lost), total=sums(4, "1.40", **lost)))
    )
    result = run("usage", "--from", "2026-05-01", "--to", "2026-05-03", url=service.url)
    assert service.requests[0].path == "/v1/usage?from=2026-05-01&to=2026-05-03"
    lines = result.stderr.splitlines()
    assert lines[1].split() == ["2026-05-01", "viduq2_pro_reference", "shop", "2", "0.70"]
    assert lines[3].split() == ["total", "4", "1.40", "1", "(0.35", "USD)"]
    assert "Paid without result" in lines[4]


def test_pages_are_joined(service: FakeService) -> None:
    """A long report has several pages: the rows are joined, the sums added, over the days of the first page."""
    service.respond_to(
        "GET /v1/usage",
        (200, report(entry("2026-05-01"), total=sums(2, "0.70"), cursor="abc")),
        (200, report(entry("2026-05-02"), total=sums(2, "0.70"))),
    )
    found = json.loads(run("usage", "--json", url=service.url).stdout)
    assert service.requests[1].path == "/v1/usage?from=2026-05-01&to=2026-05-03&cursor=abc"
    assert [row["day"] for row in found["data"]] == ["2026-05-01", "2026-05-02"]
    assert found["total"] == sums(4, "1.40")
    assert found["next_cursor"] is None


def test_csv(service: FakeService) -> None:
    """CSV has a header and no total; a client's name is no formula in a spreadsheet."""
    rows = [entry("2026-05-01", client="@SUM(A1)"), entry("2026-05-02", client='a "b", c')]
    service.respond_to("GET /v1/usage", (200, report(*rows, total=sums(4, "1.40"))))
    result = run("usage", "--csv", url=service.url)
    assert result.stderr == ""
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["client"] for row in found] == ["'@SUM(A1)", 'a "b", c']
    assert [row["cost"] for row in found] == ["0.70", "0.70"]


def test_wrong_use(service: FakeService) -> None:
    """A day that is none and two formats are refused; an empty report says so."""
    wrong_day = run("usage", "--from", "yesterday", url=service.url)
    assert (wrong_day.exit_code, "'yesterday' is no day; write it like 2026-05-31" in wrong_day.stderr) == (2, True)
    assert run("usage", "--csv", "--json", url=service.url).exit_code == 2
    service.respond_to("GET /v1/usage", (200, report(total=sums(0, "0"))))
    assert run("usage", url=service.url).stderr == "No task was submitted.\n"


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": [1], "total": {}}, {"data": [{}], "total": sums(0, "0")}])
def test_response_of_another_server(service: FakeService, body: Json) -> None:
    """A body of another shape is reported in one line."""
    service.respond_to("GET /v1/usage", (200, body))
    result = run("usage", url=service.url)
    assert result.exit_code == 1
    assert "did not respond like a Boomerang service" in result.stderr
