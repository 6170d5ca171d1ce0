"""From archives and folders to shards, and shards as a source."""
