//! A device's shadow (RFC 7396 merge patch): what it reported, what is desired, what is still to do.
