"""The school: what is learned or measured from recordings, away from the running daemon."""
