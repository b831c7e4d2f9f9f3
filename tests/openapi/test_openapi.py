"""The service conforms to its OpenAPI document."""

from pathlib import Path

from tests.openapi.runner import run


async def test_service_conforms_to_its_document(tmp_path: Path) -> None:
    """Valid data is accepted, invalid data and requests without a key are refused, and every response is declared."""
    result = await run(tmp_path, examples=8, seed=1)
    assert result.code == 0, result.output
    assert "passed" in result.output
    assert result.faults == []
