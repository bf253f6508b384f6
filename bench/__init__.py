"""The bench: geofetch against what a user would pick instead, told honestly.  ``python -m bench --help``.

    cases       what is compared: how many files, which origin, who takes part
    content     the files that are fetched, and what proves them
    origin      the origin's process: nginx where it is installed, else one of ours
    serving     our own origin, which can also wait, lie and hang up
    rivals/     one small class a client: open, fetch, close
    worker      the process that one rival lives in, and the measuring of one round
    handle      that process as the bench sees it: started, asked, ended
    judge       what a rival delivered, held against what it said
    runner      rounds, interleaved between rivals
    figures     rounds into medians
    table plot  figures as text and as SVG

Never: a figure for a rival whose counts differ, a rival left out in silence, a file that nobody verified.
"""
