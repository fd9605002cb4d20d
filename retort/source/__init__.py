"""Where checkpoints come from: local folders and the Hub, checked before they are used."""
