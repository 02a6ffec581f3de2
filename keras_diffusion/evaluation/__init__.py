"""How good pictures are: what a classifier sees in them, and distances between what it saw."""
