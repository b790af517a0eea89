"""The peers that we had to write ourselves, and what they are made of."""
