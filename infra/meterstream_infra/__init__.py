"""What meterstream runs on: the embedded broker, and topics on any broker.

`EmbeddedBroker` runs a real Apache Kafka on this machine out of Python packages (extra ``local``);
`topics` makes and checks topics on whichever broker is used.
"""
