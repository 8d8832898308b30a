//! `PostgreSQL` protocol version 3 as bytes. No I/O, no clock, no logging.
