"""Three ordinary services, for `--demo` and for tests.

They stand where a platform's own services would, and know nothing of the gateway but
its headers and the blacklist.
"""
