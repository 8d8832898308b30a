//! Proving who is there, and who we are. No I/O.
