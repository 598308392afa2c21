"""The published client stripemeter, as it is on the wire; decision 23: what its events mean."""
