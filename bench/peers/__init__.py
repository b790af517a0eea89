"""The gateways that are measured beside each other; their own code is in `sources`."""
