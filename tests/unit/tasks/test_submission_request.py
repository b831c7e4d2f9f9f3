"""The size of a request in memory, by which submissions wait for each other."""

import pytest

from service.domain.task import Json
from service.tasks.submission_request import request_size
from tests.storage.builders import a_task

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("params", "at_least"),
    [
        ({"prompt": "a cat", "images": ["https://files.example/cat.png"]}, 0),
        ({"images": [{"bytes": 3 * MIB}]}, 4 * MIB),
        ({"images": [{"bytes": 3 * MIB}, {"bytes": 3 * MIB}], "videos": [{"bytes": 3 * MIB}, "https://x"]}, 12 * MIB),
    ],
)
def test_media_count_as_base64(params: Json, at_least: int) -> None:
    """Media are sent as base64, a third longer than they are stored; all media of a task count."""
    size = request_size(a_task(params=params))
    assert at_least <= size <= at_least + MIB
