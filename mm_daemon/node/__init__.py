"""The mind: venue protocols and the engine behind one pure step, and the loop that replays it."""
