"""What meterstream runs on: the embedded broker, and topics on any broker."""
