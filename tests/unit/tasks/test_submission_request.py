"""The size of a request in memory, by which submissions wait for each other."""

import pytest

from service.domain.task import Json
from service.tasks.submission_request import request_size
from tests.storage.builders import a_task

MIB = 1024 * 1024
PICTURE = {"media_type": "image/png", "bytes": 3 * MIB, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("params", "at_least"),
    [
        ({"prompt": "a cat", "images": ["https://files.example/cat.png"]}, 0),
        ({"images": [PICTURE]}, 4 * MIB),
        ({"images": [PICTURE, PICTURE], "videos": [PICTURE, "https://x"]}, 12 * MIB),
    ],
)
def test_media_count_as_base64(params: Json, at_least: int) -> None:
    """Media are sent as base64, a third longer than they are stored; all media of a task count."""
    size = request_size(a_task(params=params))
    assert at_least <= size <= at_least + MIB
