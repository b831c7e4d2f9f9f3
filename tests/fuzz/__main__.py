"""`python -m tests.fuzz [--seconds N] [--keep] [TARGET ...]`: fuzz each target, and print what came of it."""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.fuzz.targets import TARGETS, corpus, keep

LONGEST_KEPT = 200
MOST_KEPT = 24
ROW = "{:<16}{:>12}{:>8}{:>10}{:>9}  {}\n"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one target; `edges` are what libFuzzer counts as covered, `grown` the inputs that found them."""

    name: str
    runs: int
    edges: int
    seconds: float
    findings: tuple[bytes, ...]
    grown: tuple[bytes, ...]
    said: str


def fuzz(name: str, seconds: int) -> Outcome:
    """Fuzz one target in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        inputs, found = Path(home, "inputs"), Path(home, "found")
        inputs.mkdir()
        found.mkdir()
        for number, one in enumerate(corpus(name)):
            (inputs / f"kept-{number}").write_bytes(one)
        began = monotonic()
        said = _libfuzzer(name, inputs, found, seconds)
        return Outcome(
            name=name,
            runs=_last(r"#(\d+)\s", said),
            edges=_last(r"cov: (\d+)", said),
            seconds=monotonic() - began,
            findings=_contents(found),
            grown=_contents(inputs),
            said=said,
        )


def _libfuzzer(name: str, inputs: Path, found: Path, seconds: int) -> str:
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", "-timeout=10", "-rss_limit_mb=2048"]
    command = [sys.executable, "-m", "tests.fuzz.child", name, *options, "-max_len=4096", str(inputs)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own module
    return (done.stderr + done.stdout).decode("utf-8", "replace")


def _last(pattern: str, said: str) -> int:
    found = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def _contents(place: Path) -> tuple[bytes, ...]:
    return tuple(file.read_bytes() for file in sorted(place.iterdir()))


def worth_keeping(outcome: Outcome) -> list[bytes]:
    """Return what was kept before, what was found, and the shortest of what found something new."""
    grown = sorted((one for one in outcome.grown if len(one) <= LONGEST_KEPT), key=len)
    known = corpus(outcome.name)
    return [*known, *outcome.findings, *grown[: max(0, MOST_KEPT - len(known))]]


def main(arguments: Iterable[str]) -> int:
    """Fuzz what is asked for; return 1 when anything was found."""
    reader = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    reader.add_argument("--seconds", type=int, default=60, help="for each target")
    reader.add_argument("--keep", action="store_true", help="keep inputs that are worth it in the corpus")
    reader.add_argument("names", nargs="*", choices=[[], *TARGETS], metavar="TARGET")
    asked = reader.parse_args(list(arguments))
    sys.stdout.write(ROW.format("target", "executions", "edges", "seconds", "findings", ""))
    findings = 0
    for name in asked.names or TARGETS:
        outcome = fuzz(name, asked.seconds)
        findings += len(outcome.findings)
        _tell(outcome)
        if asked.keep:
            keep(name, worth_keeping(outcome))
    return 1 if findings else 0


def _tell(outcome: Outcome) -> None:
    seconds, shown = f"{outcome.seconds:.0f}", ", ".join(map(repr, outcome.findings))
    sys.stdout.write(
        ROW.format(outcome.name, f"{outcome.runs:,}", outcome.edges, seconds, len(outcome.findings), shown)
    )
    if outcome.findings or not outcome.runs:
        sys.stdout.write(outcome.said[-3000:] + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
