"""What can go wrong while running everything on one machine."""


class LocalError(Exception):
    """Shown to the user as it is: one line that says what is wrong and the remedy."""


class StartError(LocalError):
    """A process did not become ready."""


class DataDirBusyError(LocalError):
    """Another live stack holds the data directory."""
