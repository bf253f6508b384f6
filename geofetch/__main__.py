"""``python -m geofetch``: the command.  In: sys.argv.  Out: an exit code.  Never: anything else."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
