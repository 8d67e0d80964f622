"""Bytes at rest: LMDB environments, record framing, chunking, volumes. Nothing here knows what a file is."""
