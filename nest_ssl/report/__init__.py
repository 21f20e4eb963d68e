"""What an experiment did: its runs, stages, scores and data read from files, and pages of them."""
