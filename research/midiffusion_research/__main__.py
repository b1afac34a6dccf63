"""`python -m midiffusion_research`: the command line."""

import sys

from midiffusion_research.cli import main

if __name__ == "__main__":
    sys.exit(main())
