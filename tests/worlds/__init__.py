"""The worlds in which geofetch must work, each in a process of its own.

server.py   the origin and its proxies, slow on purpose, in a process that nothing patches
calls.py    what is done in a world: add yours to the registry there
world.py    one world, one call: ``python world.py WORLD CALL ORIGIN``
"""
