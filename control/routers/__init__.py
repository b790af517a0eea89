"""The control API's paths."""
