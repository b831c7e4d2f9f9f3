"""The service answers as its OpenAPI document says, whatever it is asked."""

from pathlib import Path

from tests.openapi.runner import play


async def test_the_service_does_what_its_document_says(tmp_path: Path) -> None:
    """Good data is taken, bad data is refused, no key gets nothing, and every answer is one that was declared."""
    played = await play(tmp_path, examples=8, seed=1)
    assert played.code == 0, played.said
    assert "passed" in played.said
    assert played.faults == []
