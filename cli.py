"""`python cli.py …` does what `dspark-export …` does, from a working tree."""

import sys

from dspark_export.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
