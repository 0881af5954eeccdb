"""Settings with a fixed set of values."""

from collections.abc import Sequence

from runtime.errors import InputError


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        InputError: names the setting, the choices and the value.
    """
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
