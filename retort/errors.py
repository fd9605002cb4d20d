"""The errors a user can meet; each carries the exit code of the command that meets it."""


class RetortError(Exception):
    """A failure told in one line: what failed, on which file, and what to do next."""

    exit_code = 1


class ConversionError(RetortError):
    """A stage of the conversion could not do its work."""


class InputError(RetortError):
    """What the user gave cannot be used: an option, a checkpoint, a folder, a text."""

    exit_code = 2


class FidelityError(RetortError):
    """The result works, but is further from the original model than allowed."""

    exit_code = 3
