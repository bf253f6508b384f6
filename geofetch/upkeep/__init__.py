"""Records and stores held against each other, for as long as there are both.

    verify(recorder, store)     read again what is stored; the records learn what is present, missing or corrupt
    repair(recorder, store)     fetch again what is wrong, from the sources that the records know
    scrub, heal                 the same two, file by file, for millions of them
    gc(recorder, store)         remove what no repository holds any more; collect tells of each
    ask(sample(units))          whether sources answer; no file is fetched

In: a Recorder, and the store (or stores, by name) that it remembers files of.  Out: Findings and Repaired, frozen.
Never: a file deleted, but by gc; a file moved that is right; a wrong file replaced by anything but proven bytes; a word
in the records that the store does not bear out.

    results      Finding and Findings, Repair and Repaired
    look         stored files, read on a native thread and held against their records
    batches      small files, looked at together
    pace         no faster than so many bytes a second
    cache        the system's cache of files, left as it was
    telling      what a verify tells while it lasts
    inspector    looks, and what the records are told of them
    scrub        verify
    respec       what is fetched again, and how: a Spec from a Unit
    mend         repair
    ask          sources, asked whether they answer
    collector    gc
    aside        which files in quarantine may go
    removers     files removed, on native threads
    collected    Collected, Swept and Collection
    abreast      many at once, few in memory
"""

from .ask import Answer, ask, sample
from .collected import Collected, Collection, Swept
from .collector import collect, gc
from .mend import heal, repair
from .results import Finding, Findings, Repair, Repaired
from .scrub import scrub, verify

__all__ = [
    "Answer",
    "Collected",
    "Collection",
    "Finding",
    "Findings",
    "Repair",
    "Repaired",
    "Swept",
    "ask",
    "collect",
    "gc",
    "heal",
    "repair",
    "sample",
    "scrub",
    "verify",
]
