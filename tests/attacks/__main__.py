"""`python -m tests.attacks [PART OF A NAME]` prints the table."""

import sys

from tests.attacks.table import main

sys.exit(main(*sys.argv[1:2]))
