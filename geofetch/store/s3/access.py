"""Who asks, and how: one boto3 client a native thread.  In: Access.  Out: a client.

A client that threads share fails under patch_requests() and hangs under patch_all(): each thread has its own, which
lives as long as the thread, or until its store was closed.  What boto3 reads of its own models, and that is slow, all
threads share.  boto3 is imported when the first thread needs it.  Never: on the hub; a key that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import SpecError, StoreError
from ...hubs import own
from .awaited import Line

__all__ = ["Access", "client", "line"]

#: Seconds for a connection, and between two bytes of an answer.
CONNECT_S = 10
READ_S = 60

_loaders: list[Any] = []


@dataclass(eq=False, repr=False, slots=True)
class Access:
    """What a client is made of.  ``keys`` are boto3's own names; without them it looks where boto3 always looks."""

    endpoint: str | None
    region: str | None = None
    profile: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    addressing: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Its store was closed: whoever holds a client of it lets it go.
    over: bool = False

    def __repr__(self) -> str:
        return f"Access({self.endpoint or 'Amazon'})"


def client(access: Access) -> Any:
    """This thread's client.  Blocks, for a native thread."""
    clients: dict[Access, Any] = own("s3 clients", dict)
    found = clients.get(access)
    if found is None:
        for other in [other for other in clients if other.over]:
            clients.pop(other).close()
        found = clients[access] = _made(access)
    return found


def line() -> Line:
    """What this thread's clients talk over: it asks one thing at a time."""
    found: Line = own("s3 line", Line)
    return found


def _made(access: Access) -> Any:
    try:
        from botocore import exceptions, loaders
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as exc:
        raise SpecError("an object store needs boto3: pip install 'geofetch[s3]'") from exc
    if not _loaders:
        _loaders.append(loaders.create_loader())
    config = Config(
        # Asked again by us (bucket.py), who stop when nobody waits any more; checksums are ours, too.
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        max_pool_connections=1,
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": access.addressing or ("path" if access.endpoint else "auto")},
    )
    options = dict(access.options)
    if "config" in options:
        config = config.merge(options.pop("config"))
    try:
        session = Session(profile=access.profile)
        session.register_component("data_loader", _loaders[0])
        region = access.region or session.get_config_variable("region") or "us-east-1"
        made = session.create_client(
            "s3", region_name=region, endpoint_url=access.endpoint, config=config, **access.keys, **options
        )
    except (exceptions.BotoCoreError, ValueError) as exc:
        raise StoreError(f"no client for the object store: {exc}") from exc
    _refuse_unnamed(made.meta.endpoint_url, access)
    _listen(made, line())
    return made


def _listen(made: Any, own_line: Line) -> None:
    """Have its connections noted on the line, so that one can be broken off from elsewhere.

    botocore has no door for that: where its insides are others than these, nothing is noted, and a request ends when
    its time is over.
    """
    session = getattr(getattr(made, "_endpoint", None), "http_session", None)
    pools = getattr(session, "_pool_classes_by_scheme", None)
    if not isinstance(pools, dict):
        return
    for scheme, pool in list(pools.items()):
        noted = type(pool.ConnectionCls.__name__, (_Noted, pool.ConnectionCls), {"line": own_line})
        # In place: the session's manager, and that of each of its proxies, has this very table.
        pools[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": noted})


class _Noted:
    line: Line

    def connect(self) -> None:
        self.line.connection = self
        super().connect()  # type: ignore[misc]


def _refuse_unnamed(endpoint: str, access: Access) -> None:
    # A record that says s3://bucket is Amazon's bucket; a profile may lead elsewhere without our knowledge.
    if access.endpoint is None and ".amazonaws.com" not in endpoint:
        raise StoreError(f"the settings of AWS name another endpoint; say so: S3Store(…, endpoint={endpoint!r})")
