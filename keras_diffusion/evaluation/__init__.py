"""How good pictures are: features of pictures, distances between features, and copies."""
