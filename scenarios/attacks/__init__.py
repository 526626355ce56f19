"""The attacks, one a file. They import ``fedsim`` only: a contract keeps ours from importing what sits at a victim's seat.

In one process nothing can keep a dishonest plugin from the memory of others: attacks are code that you trust.
"""
