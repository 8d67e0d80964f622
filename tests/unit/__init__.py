"""Tests of the layers below the mount: no kernel, no daemon, no network."""
