"""How many more may this caller send? Envoy asks for every limited request (RLS).

Promise: no window of the stated length ever admits more than its limit, over all
replicas. When Redis does not answer, `HUBGATE_RATELIMIT_ON_REDIS_DOWN` decides:
`local` (default: the same limits, counted by each process for itself) or `deny`.
"""
