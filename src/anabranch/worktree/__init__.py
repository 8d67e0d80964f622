"""The mutable filesystem of one branch: synchronous, and ignorant of FUSE.

Everything here runs in one thread; what may run elsewhere (reading frozen nodes, writing a checkpoint) says so.
"""
