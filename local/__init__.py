"""Everything on one machine: embedded engines, a supervisor, demo upstreams."""
