"""Stage 0 of the 8 kHz experiment: from corpora and calls to checked `messages` files, and a report."""
