"""Tables on a disk, row by row: what differs between two, and merging two with what both came from."""
