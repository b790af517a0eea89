"""Names of the ledger's tables that no other service writes or is told of."""

from typing import Final

from runtime.contracts import (
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_SEALS,
)

TABLE_QUARANTINE: Final = "usage_quarantine"
TABLE_CHAINS: Final = TABLE_USAGE_CHAINS
TABLE_SEALS: Final = TABLE_USAGE_SEALS
TABLE_ARCHIVES: Final = TABLE_USAGE_ARCHIVES
TABLE_REPORT_IDS: Final = "usage_report_ids"
