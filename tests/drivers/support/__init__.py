"""What the driver tests stand on: a real PostgreSQL, a proxy before it, raw bytes, bounded waits."""
