"""`python -m vasa_ref` is `vasa`."""
import sys

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
