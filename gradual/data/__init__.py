"""Data: files, datasets, the mixture of a stage, batches."""
