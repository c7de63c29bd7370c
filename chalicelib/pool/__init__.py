"""Pool: distributed evolution of programs, and the claims it earns.

Serves leases, evolution and evaluation batches, consensus results, reputation, recipient coldkeys, Merkle claims.
"""
