"""Checks before the first step: what would fail, or go wrong in silence, with its cause and its cure."""
