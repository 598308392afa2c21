"""The published client meter_lib, as it is on the wire; decision 23: what its events mean."""
