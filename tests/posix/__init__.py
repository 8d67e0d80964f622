"""Random calls on two filesystems by several processes, compared step by step."""
