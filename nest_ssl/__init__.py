"""Self-supervised pre-training (NEST) and LLM recognition (Fun-ASR-Nano) of telephone speech."""

__version__ = "0.1.0.dev0"
