"""The heart: meters, windows, sessions, numbers and the fold (pure), and the stores that keep them."""
