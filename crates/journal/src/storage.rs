//! Where the bytes are: the few things that a journal does to a file, so that a test can cut the power at any of them.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// A file that is open. Everything goes by position; nothing opens, names or inspects anything else.
pub trait Storage {
    /// Length in bytes.
    ///
    /// # Errors
    /// The system's; so it is for all of these.
    fn length(&self) -> io::Result<u64>;

    /// Fills the buffer from a position on.
    ///
    /// # Errors
    /// Also if the file ends before.
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all bytes at a position. After an error any number of them may be written.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts the file to a length.
    ///
    /// # Errors
    /// The system's.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// Returns once everything written is on the medium.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
}

impl Storage for File {
    fn length(&self) -> io::Result<u64> {
        // Not by its metadata: that call takes paths, and a process that has locked itself in may have none of those.
        (&*self).seek(SeekFrom::End(0))
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl<S: Storage> Storage for Rc<S> {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        (**self).read(buffer, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        (**self).write(bytes, at)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        (**self).cut(length)
    }

    fn sync(&self) -> io::Result<()> {
        (**self).sync()
    }
}
