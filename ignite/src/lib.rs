//! The gateway that checks tokens and relays to each owner's private broker; and its launcher.
