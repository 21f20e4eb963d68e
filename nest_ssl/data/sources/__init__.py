"""Data as other tools keep them, as manifest rows: Kaldi, FunASR, folders, Hugging Face, NeMo, Lhotse."""
