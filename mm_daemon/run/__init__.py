"""The drivers: live, replay, simulation and the operator's commands over the rooms below."""
