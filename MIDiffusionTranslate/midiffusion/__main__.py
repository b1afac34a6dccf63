"""`python -m midiffusion` is the command `midiffusion`."""

import sys

from .cli import main

sys.exit(main())
