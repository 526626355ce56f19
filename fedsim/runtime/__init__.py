"""Where seats run, one kind a file; the same file gives the same numbers in each."""
