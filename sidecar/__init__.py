"""`authz` and `ratelimit` in one process: one call of Envoy answers both questions.

Nothing is decided here. authz's limiter port is filled with ratelimit's core, and both
services are served at one address; Envoy asks ratelimit there for what comes after an
answer (token budgets).
"""
