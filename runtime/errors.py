"""The one exception for mistakes a user can make and mend."""


class InputError(ValueError):
    """A file, folder, argument or setting from the user is not usable.

    The message is one line: what was expected, what came, which file, what to do. Scripts print it and exit
    with status 2 (see runtime/command_line.py); library callers may catch it as a ValueError.
    """
