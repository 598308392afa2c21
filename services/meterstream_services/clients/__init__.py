"""The clients of five other metering products, unmodified: their wire formats, our log."""
