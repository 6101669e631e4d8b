"""Faults planted on purpose, one at a time: tests that let one live are no protection.

`rows_*` say which faults there are, `bench` runs them on copies of the project, `__main__` prints
what became of each. Nothing here ever edits the project itself.
"""
