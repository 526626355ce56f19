"""The defences, one a file: stages on a link."""
