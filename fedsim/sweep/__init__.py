"""A sweep: many variants of one file, each an ordinary run, and one report over all of them."""
