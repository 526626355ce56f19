"""The attacks, one a file. They import ``fedsim`` only: an attacker cannot reach a victim, not even by import."""
