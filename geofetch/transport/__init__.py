"""Cooperative HTTP under requests: connections that yield, shared by identity.

In: requests' prepared requests, Profiles.  Out: requests' Responses.  Never: the order of a download, stores, records.

    adapter     requests' side of it: identity, the gate
    pools       the connections of the process, by hub and identity
    rest        those that nobody uses now
    exchange    one request that was answered, for a download
    connection  one connection: gevent sockets, one connect timeout for all of connecting
    request     what is asked, in one piece
    inflow      what arrived and was not read yet
    head        the head of an answer
    fields      its header fields, as urllib3 and requests have them
    reply       its body
    raw         both as urllib3 has them
    buffers     large buffers for bodies that flow
    tap         the rest of a body, for a native thread to receive
    resolve     names into addresses without holding up the hub
    tls         one SSLContext for what is the same in content
    response    where a body ends; and http.client's parser, for tunnels and for debugging
    file        file:// through the same door
"""

from .adapter import FOREIGN, Adapter, OpenGate, closing_on_error, counted
from .buffers import BROAD, Room, broad_buffers
from .exchange import Exchange
from .file import FileAdapter
from .head import flawed
from .pools import shared
from .request import composed
from .response import BadFraming, Framing, framing
from .rest import keep
from .tap import Tap

__all__ = [
    "BROAD",
    "FOREIGN",
    "Adapter",
    "BadFraming",
    "Exchange",
    "FileAdapter",
    "Framing",
    "OpenGate",
    "Room",
    "Tap",
    "broad_buffers",
    "closing_on_error",
    "composed",
    "counted",
    "flawed",
    "framing",
    "keep",
    "shared",
]
