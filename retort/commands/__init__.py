"""The verbs of the ``retort`` command, one file each: their options, and what they print."""
