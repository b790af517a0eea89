"""gRPC over HTTP/2 (RFC 9113), cleartext, for the callers that a gateway has.

The way of a call: `connection` reads frames and holds the peer to the protocol,
`headers` decodes whom it is for, `inbox` puts messages together, `output` sends the
answer as the peer's windows allow. `transport` listens, keeps house and drains.
"""
