"""InputError, the exception for mistakes that a user can make and fix, and its most common check."""

from collections.abc import Collection


class InputError(ValueError):
    """A file, folder, argument or setting from the user that cannot be used.

    The message is one line: what was expected, what was found, in which file, and what to do. Scripts print it and exit
    with status 2 (see runtime/command_line.py). Library callers can catch it as a ValueError.
    """


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse a setting that is not one of a few values.

    Raises:
        InputError: `value` is not in `choices`; the message begins with `name` and lists them.
    """
    if value not in tuple(choices):  # a tuple also works for values that cannot be hashed
        raise InputError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")
