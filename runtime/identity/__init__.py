"""Who is calling? JSON Web Tokens and their revocation.

Shared by `authz` (at the edge) and `control` (again, behind it): one verifier, so
that the two can't disagree about a token.
"""
