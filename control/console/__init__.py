"""`/console`: the usage API as a page that a person can read.

It has no data of its own: everything is asked of the API in the caller's name.
"""
