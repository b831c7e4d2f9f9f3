"""Run one target under libFuzzer: `python -m tests.fuzz.child TARGET [options of libFuzzer]`."""

import sys

import atheris


def main() -> None:
    """Fuzz until the time is up or a finding occurs."""
    with atheris.instrument_imports(include=["service", "json", "ipaddress", "urllib.parse", "email._parseaddr"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - imported while imports are instrumented
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
