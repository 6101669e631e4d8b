"""The spine: pump and gate, synchronous, over an injected clock, journal, page and sockets."""
