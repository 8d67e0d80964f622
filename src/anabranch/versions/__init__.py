"""Immutable history: trees, manifests, commits, and the names that lead to them."""
