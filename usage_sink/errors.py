"""What callers of the ledger handle by type."""


class UsageSinkError(Exception):
    """Something in the usage sink went wrong; the docstring is the message."""

    def __init__(self, detail: str = "") -> None:
        message = type(self).__doc__ or ""
        super().__init__(f"{message} ({detail})" if detail else message)


class LedgerUnavailable(UsageSinkError):
    """The ledger can't be written now; send the batch again."""


class SpoolUnavailable(LedgerUnavailable):
    """The spool can't be written now; send the batch again."""


class SpoolFull(SpoolUnavailable):
    """The spool holds all that it may; send the batch again."""


class SpoolInUse(UsageSinkError):
    """Another process has this spool."""


class PricesPending(LedgerUnavailable):
    """No price book yet; try again."""


class BadPriceBook(UsageSinkError, ValueError):
    """The price book can't be used; the last good one stays in force."""


class ArchiveDamaged(UsageSinkError):
    """An archived day is not what was sealed, or can't be read."""


class ArchiverBusy(UsageSinkError):
    """Another process archives or restores now; try again later."""


class NotArchived(UsageSinkError):
    """There is no archived day to bring back."""


class BadCorrection(UsageSinkError, ValueError):
    """The row is left as it is."""
