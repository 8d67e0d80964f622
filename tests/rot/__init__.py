"""A repository in which single bits are flipped: who reads is never given wrong bytes, and `ana fsck` misses none."""
