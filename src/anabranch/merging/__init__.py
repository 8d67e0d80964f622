"""What a merge, a revert or a cherry-pick comes to, before anything has moved; and what resolves its conflicts."""
