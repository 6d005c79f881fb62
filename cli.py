"""`python cli.py …` does what `dspark-export …` does, from a working tree."""

import sys

from dspark_export.program import run

if __name__ == "__main__":
    sys.exit(run())
