"""Tests on a real mount, and of the real command."""
