//! A sample manufacturing server: registers devices, hands credentials over, prints QR labels.
