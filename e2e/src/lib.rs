//! Tests of the whole stack with clients that are not ours.
