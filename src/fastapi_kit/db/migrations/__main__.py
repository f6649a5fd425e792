"""`python -m fastapi_kit.db.migrations init app.main:db app.main:Base.metadata`."""

import sys

from fastapi_kit.db.migrations.creation import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
