"""Whether parts answer as their Protocols in `offpol.types` say, shown a few rows before anything runs: a file a seam.

What broadcasts by accident, carries no gradient or has another meaning would train all the same, on something else.
"""
