"""Shares of functions in the processor time of a process: its main thread's stack is sampled while it works.

cProfile makes each call slower, which lets much called functions look larger, and assigns what runs in the greenlets of
SQLAlchemy to the wrong callers. A sample costs a microsecond a frame, a thousand times a second at most.
"""

import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Self

INTERVAL = 0.001
"""Seconds of processor time between two samples; the system's timer may make it four times as long."""


class Sampler:
    """Samples the stack inside the block, then writes the functions to `file`, with their calls, the largest first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._samples: Counter[str] = Counter()
        self._total = 0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        by_count = sorted(self._samples.items(), key=lambda each: -each[1])
        lines = [f"{count / self._total:6.1%} {name}\n" for name, count in by_count]
        self._file.write_text("".join(lines))

    def _sample(self, _: int, frame: FrameType | None) -> None:
        names = set()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.name.startswith("<frozen importlib"):
                return  # the start is not what is asked for
            names.add(f"{'/'.join(path.parts[-2:])} {frame.f_code.co_qualname}")
            frame = frame.f_back
        self._samples.update(names)
        self._total += 1
