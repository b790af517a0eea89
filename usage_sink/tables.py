"""Names of the ledger's tables that no other service writes or is told of."""

from typing import Final

TABLE_QUARANTINE: Final = "usage_quarantine"
TABLE_REPORT_IDS: Final = "usage_report_ids"
