"""Bytes to frames to messages and back. Nothing here knows of sockets, tasks or time."""
