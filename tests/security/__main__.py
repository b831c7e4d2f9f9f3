"""Print the table of attempts: `python -m tests.security [PART OF A NAME]`."""

import sys

from tests.security.table import main

sys.exit(main(*sys.argv[1:2]))
