"""Data for training: manifests as a dataset, batches in an order that is a pure function, their workers."""
