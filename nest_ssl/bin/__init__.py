"""Entry points: one verb per module, started as `python -m nest_ssl.bin.VERB`."""
