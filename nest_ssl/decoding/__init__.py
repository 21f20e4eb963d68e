"""From log probabilities to text: greedy, beam search."""
