"""Print the table of attempts: every attack, and whether it succeeded."""

import argparse
import sys

from tests.security.table import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("part", nargs="?", help="only the attempts whose name contains this; all of them by default")
    part = parser.parse_args().part
    sys.exit(main(*filter(None, [part])))
