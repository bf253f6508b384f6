"""One world, one call in it:  python world.py WORLD CALL ORIGIN

In     the names of a world and of a call, the origin's URLs as JSON
Out    one line of JSON: how long the call took; a traceback and status 1 when it was not as it should be
Never  an import before the world is patched that the world does not have before it
"""

import importlib
import json
import sys
import time

WORLD, CALL, ORIGIN = sys.argv[1:4]


def nothing() -> None:
    pass


def requests_patched() -> None:
    from geofetch import monkey

    monkey.patch_requests()


def process_patched() -> None:
    from geofetch import monkey

    monkey.patch_all()


# What is patched before anything else is imported, and what after the call was imported and has prepared itself.
WORLDS = {
    "nothing": ((), ()),
    "requests": ((), (requests_patched,)),
    "process": ((), ()),
    "late": ((), (process_patched,)),
    "requests, then process": ((), (requests_patched, process_patched)),
    "process, then requests": ((process_patched,), (requests_patched,)),
}


def main() -> None:
    early, late = WORLDS[WORLD]
    if WORLD == "process":  # somebody else's hand, as the first thing in the process
        from gevent import monkey

        monkey.patch_all()
    else:
        for patch in early:
            patch()
    from calls import CALLS, Origin

    if CALL not in CALLS:
        importlib.import_module("objects")  # calls that want a server of another kind
    call = CALLS[CALL]
    origin = Origin(**json.loads(ORIGIN))
    if WORLD == "late":
        importlib.import_module("boto3")
    prepared = call.prepare(origin)
    for patch in late:
        patch()
    began = time.perf_counter()
    call.work(origin, prepared)
    print(json.dumps({"elapsed_s": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
