"""The one exception that means: what the user gave cannot work."""


class InputError(ValueError):
    """A mistake in a config, a file or an argument.

    The message is one line that names the key or file, the value, and what would be right. The command-line tools print it
    without a traceback and exit with status 2.
    """
