"""The door for events that come over a network: into the log, and only then answered."""
