"""What a program does to make a file durable: calls of fsync and of rename, in their order."""

import os
from pathlib import Path
from typing import Any

import pytest

Step = tuple[str, Path, int]
"""`sync` or `rename`, the path (of a rename the new one), and the size of the file at that moment, in bytes."""


def recorded_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Return a list to which every fsync, rename and link of this process adds a step from now on."""
    steps: list[Step] = []
    fsync = os.fsync

    def sync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115 - the path of a descriptor
        steps.append(("sync", path, os.fstat(number).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "fdatasync", sync)
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, _recording(getattr(os, name), steps))
    return steps


def _recording(move: Any, steps: list[Step]) -> Any:
    def recording(source: Any, target: Any, **options: Any) -> None:
        steps.append(("rename", Path(target), Path(source).stat().st_size))
        move(source, target, **options)

    return recording
