"""The parts of utils/compare_with_nemo.py."""
