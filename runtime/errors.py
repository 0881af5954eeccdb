"""The one exception for mistakes a user can make and fix, and the commonest check that raises it."""

from collections.abc import Collection


class InputError(ValueError):
    """A file, folder, argument or setting from the user is not usable.

    The message is one line: what was expected, what came, which file, what to do. Scripts print it and exit
    with status 2 (see runtime/command_line.py); library callers may catch it as a ValueError.
    """


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse a setting that is none of a few names.

    Raises:
        InputError: `value` is not in `choices`; the message begins with `name` and lists them.
    """
    if value not in tuple(choices):  # a value that cannot be hashed is refused too
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
