"""Certificates for tests.  In: who is meant, for how long.  Out: PEM files and PEM bytes.  Never: a trusted CA."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Any

import trustme

_numbers = count(1)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key: ``both`` is one file that holds the two, ``pem`` the same in bytes."""

    name: str
    cert: Path
    key: Path
    both: Path
    pem: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the certificate, as ``fingerprint`` wants it."""
        return hashlib.sha256(PEM_cert_to_DER_cert(self.cert.read_text().partition("\n\n")[0].strip())).hexdigest()


class Authority:
    """A CA that nobody trusts unless told to: ``path`` is its PEM file, ``pem`` the same in bytes."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.pem: bytes = self._ca.cert_pem.bytes()
        self.path = folder / f"ca-{next(_numbers)}.pem"
        self.path.write_bytes(self.pem)
        # One certificate a set of names: making a key takes its time, and every test asks for the same one.
        self.server = cache(self._server)
        self.client = cache(self._client)

    def _server(self, *names: str, expired: bool = False, early: bool = False, cn: str | None = None) -> Certificate:
        """For a server of these names and addresses; ``early``: from tomorrow on.  ``cn`` is the subject's name."""
        given = self._ca.issue_cert(*names, common_name=cn, **_time(expired, early))
        return self._written(cn or names[0], given)

    def _client(self, name: str, expired: bool = False) -> Certificate:
        """For a client of that name."""
        return self._written(name, self._ca.issue_cert(f"{name}@client.test", common_name=name, **_time(expired)))

    def itself(self) -> Certificate:
        """The CA's own certificate with its key: nobody else has signed it."""
        key = self._ca.private_key_pem
        return self._put("itself", self.pem, key.bytes())

    def _written(self, name: str, made: trustme.LeafCert) -> Certificate:
        return self._put(name, b"".join(part.bytes() for part in made.cert_chain_pems), made.private_key_pem.bytes())

    def _put(self, name: str, chain: bytes, secret: bytes) -> Certificate:
        stem = self._folder / f"cert-{next(_numbers)}"
        cert, key, both = (stem.with_suffix(suffix) for suffix in (".crt", ".key", ".pem"))
        cert.write_bytes(chain)
        key.write_bytes(secret)
        both.write_bytes(secret + chain)
        return Certificate(name, cert, key, both, both.read_bytes())


def _time(expired: bool = False, early: bool = False) -> dict[str, Any]:
    """When a certificate counts: always, until yesterday, from tomorrow on."""
    now, day = datetime.now(UTC), timedelta(days=1)
    if expired:
        return {"not_before": now - 9 * day, "not_after": now - day}
    return {"not_before": now + day, "not_after": now + 9 * day} if early else {}
