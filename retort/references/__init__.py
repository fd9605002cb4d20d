"""The untouched PyTorch models that graphs are measured against."""
