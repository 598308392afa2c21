"""The heart: meters, windows, sessions, numbers and the fold (pure), and their stores."""
