"""Telephone channel simulation: band, level, noise and codecs, drawn per utterance and reproducible."""
