"""What a run leaves behind: its folder, its numbers, its page, and how two runs differ."""
