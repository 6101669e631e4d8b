"""Deribit's language: JSON-RPC frames to events, intents to frames. Never a socket, a clock or a
secret.
"""
