"""What the driver tests stand on: a real PostgreSQL, a proxy, raw bytes, bounded waits."""
