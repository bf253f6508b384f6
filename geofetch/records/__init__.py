"""What is remembered of every stored file, for years: where it is, how to prove it again, where it can come from.

In: what a stage sees of an attempt.  Out: Units; unit files.  Never: a secret, or a word about a file no store keeps.

    units        the Unit, a frozen value
    recorder     Recorder: the stage, and the door to what is remembered
    lane         one native thread, and the greenlets that wait for it
    ledger       the database as that thread sees it
    book         units as the tables hold them, and what is known of those that a batch is about
    put changes  what news makes of what was known: pure
    known        what is known of the file in a place, and whether that is all there is to say
    routine      batches for which nothing needs to be merged
    listing      what a repository is to hold, so that the rest is taken off it
    leftovers    what lies in a store and is no unit's any more, on its way out
    clearing     what a gc asks of the records, and tells them
    rows reader census soundness    units read from the tables; questions
    saving       rows written to the tables
    models migrations schema_3    the tables, their versions
    sql many     statements, for one value or for thousands
    database    what one database does otherwise than another: SQLite, PostgreSQL, MariaDB and MySQL
    opening     a database, connected and at the newest schema
    plugin       a plugin's own rows, in the transaction of the units
    unit_files   a unit as a JSON document
"""

from .lane import Pending
from .listing import Listing
from .plugin import Plugin, Recorded
from .recorder import Recorder
from .units import Health, Unit

__all__ = ["Health", "Listing", "Pending", "Plugin", "Recorded", "Recorder", "Unit"]
