"""One file per step; the name says why."""
