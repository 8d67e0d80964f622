"""The command `ana`: one module a group of commands, thin over the library and the daemon's client."""
