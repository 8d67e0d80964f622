"""What tests of a repository can reuse."""
