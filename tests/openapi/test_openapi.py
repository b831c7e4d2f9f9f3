"""The service conforms to its OpenAPI document."""

from pathlib import Path

import pytest

from tests.openapi.runner import PHASES, run


@pytest.mark.parametrize("phases", ["examples,coverage", pytest.param(PHASES, marks=pytest.mark.slow)])
async def test_service_conforms_to_its_document(tmp_path: Path, phases: str) -> None:
    """Valid data is accepted, invalid data and requests without a key are refused, and every response is declared."""
    result = await run(tmp_path, examples=8, seed=1, phases=phases)
    assert result.code == 0, result.output
    assert "passed" in result.output
    assert result.faults == []
