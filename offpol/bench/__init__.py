"""`offpol-bench`: suites of runs, planned, started, watched and gone on with."""
