"""Where results go: folders that appear whole or not at all."""
