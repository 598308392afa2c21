"""What crosses a boundary: the meter event, its Avro form, its framing and its placement.

Both the SDK and the aggregator depend on this package and on nothing else of each other's.
"""
