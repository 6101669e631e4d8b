"""The languages of the venues: protocols as pure state machines over bytes."""
