"""`python -m tests.fuzz [--seconds N] [--keep] [TARGET ...]`: fuzz each target, and print the results."""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.fuzz.targets import TARGETS, read_corpus, write_corpus

MAX_INPUT_BYTES = 200
MAX_CORPUS = 24
ROW = "{:<16}{:>12}{:>8}{:>10}{:>9}  {}\n"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one target; `edges` is libFuzzer's coverage, `discovered` holds the inputs that increased it."""

    name: str
    runs: int
    edges: int
    seconds: float
    findings: tuple[bytes, ...]
    discovered: tuple[bytes, ...]
    output: str


def fuzz(name: str, seconds: int) -> Outcome:
    """Fuzz one target in a separate process."""
    with tempfile.TemporaryDirectory() as home:
        inputs, found = Path(home, "inputs"), Path(home, "found")
        inputs.mkdir()
        found.mkdir()
        for number, one in enumerate(read_corpus(name)):
            (inputs / f"corpus-{number}").write_bytes(one)
        began = monotonic()
        output = _libfuzzer(name, inputs, found, seconds)
        return Outcome(
            name=name,
            runs=_last(r"#(\d+)\s", output),
            edges=_last(r"cov: (\d+)", output),
            seconds=monotonic() - began,
            findings=_read_files(found),
            discovered=_read_files(inputs),
            output=output,
        )


def _libfuzzer(name: str, inputs: Path, found: Path, seconds: int) -> str:
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", "-timeout=10", "-rss_limit_mb=2048"]
    command = [sys.executable, "-m", "tests.fuzz.child", name, *options, "-max_len=4096", str(inputs)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own module
    return (done.stderr + done.stdout).decode("utf-8", "replace")


def _last(pattern: str, output: str) -> int:
    numbers = re.findall(pattern, output)
    return int(numbers[-1]) if numbers else 0


def _read_files(folder: Path) -> tuple[bytes, ...]:
    return tuple(file.read_bytes() for file in sorted(folder.iterdir()))


def new_corpus(outcome: Outcome) -> list[bytes]:
    """Return the current corpus, the findings, and the shortest of the discovered inputs."""
    discovered = sorted((one for one in outcome.discovered if len(one) <= MAX_INPUT_BYTES), key=len)
    known = read_corpus(outcome.name)
    return [*known, *outcome.findings, *discovered[: max(0, MAX_CORPUS - len(known))]]


def main(arguments: Iterable[str]) -> int:
    """Fuzz the chosen targets; return 1 after any finding."""
    reader = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    reader.add_argument("--seconds", type=int, default=60, help="for each target")
    reader.add_argument("--keep", action="store_true", help="add findings and short discovered inputs to the corpus")
    reader.add_argument("names", nargs="*", choices=[[], *TARGETS], metavar="TARGET")
    options = reader.parse_args(list(arguments))
    sys.stdout.write(ROW.format("target", "executions", "edges", "seconds", "findings", ""))
    findings = 0
    for name in options.names or TARGETS:
        outcome = fuzz(name, options.seconds)
        findings += len(outcome.findings)
        _print_outcome(outcome)
        if options.keep:
            write_corpus(name, new_corpus(outcome))
    return 1 if findings else 0


def _print_outcome(outcome: Outcome) -> None:
    seconds, shown = f"{outcome.seconds:.0f}", ", ".join(map(repr, outcome.findings))
    sys.stdout.write(
        ROW.format(outcome.name, f"{outcome.runs:,}", outcome.edges, seconds, len(outcome.findings), shown)
    )
    if outcome.findings or not outcome.runs:
        sys.stdout.write(outcome.output[-3000:] + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
