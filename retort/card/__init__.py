"""The model card of a finished folder: what it is, what was measured, how to use it."""
