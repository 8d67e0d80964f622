"""Tests of the command `ana`, on its own: no mount, and bad input."""
