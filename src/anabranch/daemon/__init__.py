"""Who owns a repository for writing, and how others ask the owner."""
