"""The one exception for a user's mistake."""


class InputError(Exception):
    """Something the user gave cannot be used.

    Its message is one clear sentence: the file and line (where there is one), what was found and what is accepted. The
    command line prints it without a traceback and exits with status 2.
    """
