//! Arithmetic as the firmware uses it, hashed round by round: the compiler for this chip is young, and a wrong shift would be a
//! wrong signature. The same file runs on the host and on the chip; the rounds' sums have to be equal.

use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes128Gcm, KeyInit as _};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha256};

/// How many rounds are compared.
pub(crate) const ROUNDS: u32 = 256;

/// FNV-1a, 64 bits.
struct Sum(u64);

impl Sum {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn add(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// xorshift64, with many values at the edges.
struct Numbers(u64);

impl Numbers {
    #[inline(never)]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        match self.0 >> 60 {
            0 => self.0 & 0xff,
            1 => !(self.0 & 0xff),
            2 => self.0 & 0xffff_ffff,
            3 => self.0 | 0xffff_ffff_0000_0000,
            4 => 1 << (self.0 & 63),
            _ => self.0,
        }
    }
}

macro_rules! whole_numbers {
    ($sum:expr, $numbers:expr, $($kind:ty),*) => { $({
        let (a, b) = ($numbers.next() as $kind, $numbers.next() as $kind);
        let by = $numbers.next() as u32 % <$kind>::BITS;
        for value in [
            a.wrapping_add(b), a.wrapping_sub(b), a.wrapping_mul(b), a << by, a >> by, a.rotate_left(by), a.swap_bytes(),
            a.saturating_add(b), a.saturating_sub(b), a.min(b), a & b, a | b, a ^ b, !a,
        ] {
            $sum.add(value as u64);
        }
        $sum.add(a.checked_div(b).map_or(1, |value| value as u64));
        $sum.add(a.checked_rem(b).map_or(2, |value| value as u64));
        $sum.add(a.checked_add(b).map_or(3, |value| value as u64));
        $sum.add(a.checked_mul(b).map_or(4, |value| value as u64));
        $sum.add(u64::from(a.leading_zeros()) << 16 | u64::from(a.trailing_zeros()) << 8 | u64::from(a.count_ones()));
        $sum.add(u64::from(a < b) | u64::from(a == b) << 1 | u64::from(a >= b) << 2);
        $sum.add(a.abs_diff(b) as u64);
    })* };
}

/// Runs so many rounds and reports the sum after each.
pub(crate) fn run(rounds: u32, report: &mut dyn FnMut(u32, u64)) {
    let mut sum = Sum(0xcbf2_9ce4_8422_2325);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        whole_numbers!(sum, numbers, u8, i8, u16, i16, u32, i32, u64, i64);
        wide(&mut sum, &mut numbers);
        memory(&mut sum, &mut numbers);
        text(&mut sum, &mut numbers);
        if round % 8 == 0 {
            sealing(&mut sum, &mut numbers);
        }
        if round % 64 == 0 {
            signing(&mut sum, &mut numbers);
        }
        report(round, sum.0);
    }
}

/// 128 bits: all but division, which this compiler gets wrong and nothing here uses.
#[inline(never)]
fn wide(sum: &mut Sum, numbers: &mut Numbers) {
    let a = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    let b = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    let by = numbers.next() as u32 % 128;
    for value in [a.wrapping_mul(b), a.wrapping_add(b), a.wrapping_sub(b), a >> by, b << by] {
        sum.add(value as u64);
        sum.add((value >> 64) as u64);
    }
}

/// Copies that overlap, at odd addresses.
#[inline(never)]
fn memory(sum: &mut Sum, numbers: &mut Numbers) {
    let mut bytes = [0; 96];
    for byte in &mut bytes {
        *byte = numbers.next() as u8;
    }
    let (from, to) = ((numbers.next() % 32) as usize, (numbers.next() % 32) as usize);
    let len = (numbers.next() % 64) as usize;
    bytes.copy_within(from..from + len, to);
    bytes[to..to + 5].fill(7);
    bytes[10..50].sort_unstable();
    sum.bytes(&bytes);
}

#[inline(never)]
fn text(sum: &mut Sum, numbers: &mut Numbers) {
    let mut bytes = [0; 40];
    for byte in &mut bytes {
        *byte = b"0123456789-+,\"\\{}:\xc3\xa9 "[(numbers.next() % 21) as usize];
    }
    sum.add(
        core::str::from_utf8(&bytes)
            .map_or_else(|error| error.valid_up_to() as u64, |text| text.chars().count() as u64),
    );
    for part in bytes.split(|byte| *byte == b',') {
        let number = core::str::from_utf8(part).ok().and_then(|part| part.parse::<i32>().ok());
        sum.add(number.map_or(1, |number| number as u64));
    }
}

#[inline(never)]
fn sealing(sum: &mut Sum, numbers: &mut Numbers) {
    let mut bytes = [0; 77];
    for byte in &mut bytes {
        *byte = numbers.next() as u8;
    }
    let hash = Sha256::digest(bytes);
    sum.bytes(&hash);
    let cipher = Aes128Gcm::new(hash[..16].into());
    if let Ok(tag) = cipher.encrypt_in_place_detached(hash[16..28].into(), b"head", &mut bytes) {
        sum.bytes(&bytes);
        sum.bytes(&tag);
        let opened = cipher.decrypt_in_place_detached(hash[16..28].into(), b"head", &mut bytes, &tag);
        sum.add(u64::from(opened.is_ok()));
        sum.bytes(&bytes);
        sum.add(u64::from(
            cipher.decrypt_in_place_detached(hash[16..28].into(), b"tail", &mut bytes, &tag).is_ok(),
        ));
    }
}

#[inline(never)]
fn signing(sum: &mut Sum, numbers: &mut Numbers) {
    let seed = Sha256::digest(numbers.next().to_le_bytes());
    let Ok(key) = SigningKey::from_bytes(&seed) else { return };
    let signature: Signature = key.sign(b"message");
    sum.bytes(&signature.to_bytes());
    sum.bytes(key.verifying_key().to_encoded_point(false).as_bytes());
    sum.add(u64::from(key.verifying_key().verify(b"message", &signature).is_ok()));
    sum.add(u64::from(key.verifying_key().verify(b"another", &signature).is_ok()));
}
