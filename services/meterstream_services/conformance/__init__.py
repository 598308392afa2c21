"""Published cases of other metering systems, run through the real catalogue, core and questions."""
