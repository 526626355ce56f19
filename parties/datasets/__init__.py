"""The data sets that shipped scenarios use, one a file: where each is published, and how its file is made from that."""
