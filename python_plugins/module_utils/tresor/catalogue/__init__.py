"""Models that Tresor knows how to serve: entries of the shipped catalogue, read and checked."""
