"""What sits at a seat: features, labels, the victim's own judgement, and where the rows come from."""
