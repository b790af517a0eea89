"""What people do with the ledger: check it, archive it, correct it, take it out."""
