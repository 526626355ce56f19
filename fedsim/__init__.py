"""fedsim: vertical federated learning, and a security testbed for it."""
