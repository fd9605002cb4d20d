"""8-bit recipes: from the fp32 graph and what its values are on real texts to an 8-bit graph."""
