"""A container: a directory that joins bundle, network, volumes and a run."""
