"""A bundle becomes a running process. This room knows no images."""
