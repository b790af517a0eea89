"""What should Envoy do, and what was used?

Promise: a configuration that control has answered with 200 is the one every
connected Envoy serves; one that it refuses changes nothing. Failure policy: Envoy
keeps serving its last configuration while control, PostgreSQL or Redis are away.
"""
