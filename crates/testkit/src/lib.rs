//! Starts a whole OAuthing stack on free ports, for tests and the demo.
