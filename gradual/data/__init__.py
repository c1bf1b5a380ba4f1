"""Data: files, datasets, the mixture of each stage, and batches."""
