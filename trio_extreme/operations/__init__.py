"""What can be asked of a server, and what its answers mean. Nothing here knows of sockets, tasks or time."""
