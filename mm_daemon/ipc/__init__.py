"""The wall sockets between the processes: page, latch, journal, framing. Standard library only."""
