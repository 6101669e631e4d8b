"""The keeper: parent of all processes, with its own key to the venue. Standard library only."""
