//! Builds every long-lived object once, starts them, waits for a signal, drains.
