"""The ways a frame can travel between seats; each is a `base.Transport`."""
