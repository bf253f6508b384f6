"""A scripted origin in a process of its own: every answer a network can give, staged on real sockets.

    content    bytes that both sides can make from a seed
    scenes     what an answer looks like, as a value; becomes a list of steps
    faults     the answers of the fault matrix, by name
    wire       requests read, steps played, on one socket
    house      listeners, their connections, what was seen
    proxy      a forward proxy among the listeners
    __main__   the control channel: JSON lines on stdin and stdout

In: commands.  Out: answers, and what was seen.  Never: gevent, or anything else outside the standard library; an origin
that shares a hub with what it tests hides every call that blocks that hub.
"""
