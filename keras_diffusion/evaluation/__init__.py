"""Quality of generated images: features, distances between features, and copies."""
