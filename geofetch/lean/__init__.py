"""What a request takes from its session and from the environment: worked out once, and again when they change.

In: a requests.Session and what it is asked for, ``os.environ``, netrc files.  Out: what requests' own functions make of
them, sooner.  Never: another answer than theirs.  What cannot be shown to be the same is left to them, and so is all of
it while one of the functions that would be passed by is replaced.

    prepare      a PreparedRequest: its URL, cookies, body, auth
    headers      the session's headers, checked, and a request's own put on them
    environment  proxies, CA bundle and netrc of the environment
    seams        whether what is passed by is still requests' own
"""

from .environment import proxies_for, settings
from .headers import BEHIND_TEMPLATES, Template
from .prepare import NO_HOOKS, no_cookies_in, prepared, written
from .seams import Seams, is_of, look

__all__ = [
    "BEHIND_TEMPLATES",
    "NO_HOOKS",
    "Seams",
    "Template",
    "is_of",
    "look",
    "no_cookies_in",
    "prepared",
    "proxies_for",
    "settings",
    "written",
]
