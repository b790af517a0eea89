"""What columns of the ledger's tables have in common."""

from sqlalchemy import BigInteger, Column, DateTime, func


def instant(name: str, *, default: bool = False, null: bool = False) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=null,
        server_default=func.now() if default else None,
    )


def counts(*names: str, default: bool = False) -> list[Column[int]]:
    zero = "0" if default else None
    return [
        Column(name, BigInteger, nullable=False, server_default=zero) for name in names
    ]
