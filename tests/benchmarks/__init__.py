"""How fast it is, every figure beside a floor that is measured in the same run: `python -m tests.benchmarks`."""
