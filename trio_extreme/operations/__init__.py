"""What can be asked of a server, and what its answers mean. One file a family; nothing here knows of sockets or time."""
