"""The hands: sockets, processes and the wall clock. Everything here is asynchronous; nothing here
decides."""
