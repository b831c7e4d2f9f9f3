"""A new Python process that uses the code of the service."""

import subprocess
import sys
from pathlib import Path


def output_of(program: str, directory: Path, *arguments: str) -> str:
    """Run `program` in `directory` with a key of the provider, and return what it prints; it must succeed."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=directory,
        env={"BOOMERANG_UPSTREAM_KEY": "sample", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stdout
