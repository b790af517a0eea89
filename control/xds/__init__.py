"""The model as Envoy's messages; builds and serialises, does no I/O."""
