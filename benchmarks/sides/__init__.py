"""One program for each client that is measured: it does a work as that client's users would, and prints what it took.

Each is called with a work, a port, a number of events, and the bytes of data in each; it sees to it that every event
was seen once, and prints JSON: seconds around the work alone, and the most memory.
"""
