//! Checking a signature: ECDSA on P-256 with SHA-256 (FIPS 186-5 §6.4.2), twice as fast as one product after the other.
//!
//! The sum of two products of points shares its doublings (Shamir's trick), and digits with signs leave most additions out. All of that
//! takes a time that depends on the numbers, which are public here; nothing secret may come near it. Curve and scalars are `p256`'s.

use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::Group as _;
use p256::elliptic_curve::ops::{Invert as _, Reduce};
use p256::elliptic_curve::point::AffineCoordinates as _;
use p256::{ProjectivePoint, Scalar, U256};
use sha2::{Digest as _, Sha256};

/// Digits of a scalar: each is 0 or odd, and of four neighbours at most one is not 0.
const DIGITS: usize = 257;

/// P, 3P, 5P, 7P.
const MULTIPLES: usize = 4;

/// True if `signature` is one of `message` by `key`.
#[must_use]
pub fn holds(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    let hash = <Scalar as Reduce<U256>>::reduce_bytes(&Sha256::digest(message));
    let (r, s) = signature.split_scalars();
    let inverse = *s.invert_vartime();
    let sum = sum(&(hash * inverse), &ProjectivePoint::from(*key.as_affine()), &(*r * inverse));
    !bool::from(sum.is_identity()) && *r == <Scalar as Reduce<U256>>::reduce_bytes(&sum.to_affine().x())
}

/// One product of the sum. Made where it stays: on this chip's stack there is no room for two of them.
struct Product {
    digits: [i8; DIGITS],
    multiples: [ProjectivePoint; MULTIPLES],
}

impl Product {
    const fn new() -> Self {
        Self { digits: [0; DIGITS], multiples: [ProjectivePoint::IDENTITY; MULTIPLES] }
    }

    #[inline(never)]
    fn set(&mut self, scalar: &Scalar, point: &ProjectivePoint) {
        write_digits(scalar, &mut self.digits);
        let twice = point.double();
        self.multiples[0] = *point;
        for at in 1..MULTIPLES {
            self.multiples[at] = self.multiples[at - 1] + twice;
        }
    }

    fn add_digit(&self, at: usize, sum: &mut ProjectivePoint) {
        let digit = self.digits[at];
        let multiple = &self.multiples[usize::from(digit.unsigned_abs() / 2)];
        match digit.signum() {
            1 => *sum += multiple,
            -1 => *sum -= multiple,
            _ => {}
        }
    }
}

/// `first`·G + `second`·`point`.
#[inline(never)]
fn sum(first: &Scalar, point: &ProjectivePoint, second: &Scalar) -> ProjectivePoint {
    let mut products = [const { Product::new() }; 2];
    products[0].set(first, &ProjectivePoint::GENERATOR);
    products[1].set(second, point);
    let mut sum = ProjectivePoint::IDENTITY;
    for at in (0..DIGITS).rev() {
        sum = sum.double();
        products[0].add_digit(at, &mut sum);
        products[1].add_digit(at, &mut sum);
    }
    sum
}

/// The scalar in non-adjacent form of width 4, least digit first (Hankerson, Menezes, Vanstone: algorithm 3.35).
fn write_digits(scalar: &Scalar, digits: &mut [i8; DIGITS]) {
    let bytes = scalar.to_bytes();
    let bit = |at: usize| -> u8 {
        // The scalar's bytes begin with the highest.
        bytes.get(31_usize.wrapping_sub(at / 8)).map_or(0, |byte| byte >> (at % 8) & 1)
    };
    let (mut at, mut carry) = (0, 0);
    while at < DIGITS {
        if bit(at) == carry {
            // What is left, with the carry, is even.
            at += 1;
            continue;
        }
        let window = bit(at) | bit(at + 1) << 1 | bit(at + 2) << 2 | bit(at + 3) << 3;
        let value = (window + carry) as i8;
        carry = u8::from(value > 8);
        digits[at] = if value > 8 { value - 16 } else { value };
        at += 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::SecretKey;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::{Signer as _, Verifier as _};
    use proptest::prelude::*;

    fn scalar(bytes: [u8; 32]) -> Scalar {
        <Scalar as Reduce<U256>>::reduce_bytes(&bytes.into())
    }

    fn check(first: Scalar, point: Scalar, second: Scalar) {
        let point = ProjectivePoint::GENERATOR * point;
        let slowly = ProjectivePoint::GENERATOR * first + point * second;
        assert_eq!(sum(&first, &point, &second), slowly);
    }

    #[test]
    fn scalars_at_the_edges() {
        let edges = [
            Scalar::ZERO,
            Scalar::ONE,
            -Scalar::ONE,
            Scalar::from(8u64),
            Scalar::from(9u64),
            -Scalar::from(16u64),
        ];
        for first in edges {
            for second in edges {
                // Two points of the same line, equal and opposite ones among them.
                for point in [Scalar::ONE, -Scalar::ONE, Scalar::from(3u64), -Scalar::from(5u64)] {
                    check(first, point, second);
                }
            }
        }
    }

    #[test]
    fn a_signature_whose_sum_is_no_point_does_not_hold() {
        // With the key -hash/r the sum is infinity, whatever s is.
        let hash = <Scalar as Reduce<U256>>::reduce_bytes(&Sha256::digest(b"m"));
        let key = SecretKey::from_bytes(&(-hash).to_bytes()).expect("not 0");
        let signature =
            Signature::from_scalars(Scalar::ONE.to_bytes(), Scalar::ONE.to_bytes()).expect("not 0");
        let key = VerifyingKey::from(&key.public_key());
        assert!(!holds(&key, b"m", &signature) && key.verify(b"m", &signature).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_sum_is_what_the_library_says(first: [u8; 32], point: [u8; 32], second: [u8; 32]) {
            check(scalar(first), scalar(point), scalar(second));
        }

        #[test]
        fn what_was_signed_holds_and_nothing_else_does(secret: [u8; 32], message: Vec<u8>, bit in 0..512usize) {
            let Ok(key) = SigningKey::from_bytes(&scalar(secret).to_bytes()) else { return Ok(()) };
            let signature: Signature = key.sign(&message);
            prop_assert!(holds(key.verifying_key(), &message, &signature));
            prop_assert!(!holds(key.verifying_key(), &[&message[..], b"x"].concat(), &signature));
            let mut bytes = signature.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Signature::from_bytes(&bytes) {
                prop_assert!(!holds(key.verifying_key(), &message, &other));
                prop_assert!(key.verifying_key().verify(&message, &other).is_err());
            }
        }
    }
}
