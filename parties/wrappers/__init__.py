"""What may be wrapped around a seat, one kind a file."""
