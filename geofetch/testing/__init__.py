"""What a plugin's own tests begin with.  In: something of the plugin's.  Out: pass or fail, by pytest.

``geofetch.testing.store``: what every store promises.  Never: imported by geofetch itself; pytest is the tester's.
"""
