"""Looking for damage in a repository, and mending it. docs/design/007-finding-and-mending-damage.md."""
