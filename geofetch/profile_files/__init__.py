"""Profiles kept in a TOML file that people read, secrets by reference or encrypted; content sources beside them.

    [profiles.mirror]
    origins = ["https://mirror.example"]        # it is never told to others
    user = "reader"
    password = "env:MIRROR_PASSWORD"

    [sources.mirror]                            # where files may come from besides, as Pulp's content sources
    urls = ["https://mirror.example/rpms/"]
    priority = 0                                # lower is tried first
    profile = "mirror"

    [fernet]
    keys = ["env:GEOFETCH_PROFILES_KEY"]        # for secrets that stand here encrypted; the first one encrypts

    fields     what a table may say, and the Profile that it makes
    document   the text: read with errors that name file, table and key; edited so that comments stay
    book       Profiles: a mapping from names to Profile, loaded, changed, saved
    sealing    secrets in place: encrypted, and encrypted again by another key
    sources    ContentSource: further places for each file of a sync
    pulp       Pulp 2's conf.d files, imported

In: a file.  Out: Profiles, whose secrets nobody has looked for yet.  Never: a secret looked for (unlock.py does that,
when a Session is made); a file with secrets in clear that others can read, taken or written.
"""

from .book import Profiles, default_path
from .pulp import Imported, read_conf
from .sources import ContentSource

__all__ = ["ContentSource", "Imported", "Profiles", "default_path", "read_conf"]
