"""A hostile client does not keep another one from its results. The speed is measured by the command, not here."""

from pathlib import Path

from tests.acceptance.hostile_client import compare, table


async def test_usual_client_is_served_beside_a_hostile_one(tmp_path: Path) -> None:
    """Each journey of the usual client ends with its result, while the hostile client attacks in every way."""
    alone, beside, answers = await compare(tmp_path, seconds=2)
    assert len(beside["submit"]) >= 3
    assert set(answers) == {"send_slowly", "read_nothing", "list_everything", "notify_nobody"}
    assert answers["list_everything"]["200"]
    assert answers["notify_nobody"]["202"]
    assert len(table(alone, beside)) == 2 + len(alone)
