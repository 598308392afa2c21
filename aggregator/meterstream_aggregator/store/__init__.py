"""Where the fold's results are kept: the ports, and one implementation a module."""
