"""What other services import of hubgate: its protocols, generated from `protos/`."""
