"""Text: normalisation, tokenizers, error rates, CTC label sequences.  No torch here."""
