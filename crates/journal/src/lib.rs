//! An encrypted journal in two files that survives being killed at any byte.
