"""The threats, one file or folder each, with the scenario files beside them."""
