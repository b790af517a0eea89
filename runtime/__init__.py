"""What every process needs and no product rule; imports no service."""
