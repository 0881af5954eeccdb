"""What every script at the root shares: how it ends."""

import sys
from collections.abc import Callable

from data.errors import InputError


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and leave: its status (0 when None), 2 and one line for a user's mistake, 130 for Ctrl-C."""
    try:
        status = main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
