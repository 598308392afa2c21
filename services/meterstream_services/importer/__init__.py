"""Files into events: rows read, mapped, given an identity, recorded and followed until counted."""
