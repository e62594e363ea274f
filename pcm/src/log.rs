//! One line to standard error for what is worth knowing; never a topic, a payload or a client's name.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line. A broker whose standard error is closed goes on without it.
pub(crate) fn line(text: Arguments<'_>) {
    let _nowhere_to_complain = writeln!(std::io::stderr(), "pcm: {text}");
}
