"""May this request pass? Envoy asks before every proxied request (ext_authz).

Promise: nothing passes on doubt. Whatever goes wrong while deciding is a denial with
a code and a reason, never an RPC error. When Redis can't say whether a token is
revoked, `HUBGATE_AUTHZ_ON_REDIS_DOWN` decides: `deny` (default, 503) or `allow`.
"""
