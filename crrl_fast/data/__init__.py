"""Data: the store, joint layouts, preprocessing, readers, the embedded generated set, and batches."""
