"""The stages of a conversion, one file each; convert.py calls them in order."""
