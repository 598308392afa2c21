"""The demo: a small fleet of services, a worker that is killed, and the books afterwards."""
