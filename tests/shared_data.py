"""Where the real texts and tokenizers lie that are too large, or not ours, to ship."""

from pathlib import Path

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
