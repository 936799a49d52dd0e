"""A TCP proxy that breaks connections on demand, so that what breaks by accident can be tried on purpose.

``faults`` says what there is to break, ``frames`` follows a WebSocket server's stream, ``links`` moves the bytes,
``proxy`` listens, ``director`` keeps the faults that are in force and their ends, ``recorder`` tells the collector, and
``control`` is how the command line reaches a running proxy.
"""
