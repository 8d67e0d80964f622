"""Between versions and ordinary files: folders and tar streams, read and written without a mount."""
