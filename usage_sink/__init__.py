"""What was used? Turns Envoy's access log into rows of the ledger, once each.

Promise: an OTLP batch is answered only after its rows are committed; the same batch
may come any number of times. PostgreSQL away: batches are answered UNAVAILABLE and
Envoy keeps them; requests are never slowed. An entry that can't become a row is kept
in `usage_quarantine` with the reason and never delays its neighbours.
"""
