"""`offpol-report`: figures and tables of finished runs, with intervals, beside published scores."""
