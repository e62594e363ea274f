//! The four-digit code on a lamp: a device without a display blinks it.
//!
//! Each digit is that many short flashes, zero is ten; a pause lies between digits, a longer one with one long flash before the
//! code begins again. A person counts along and types.

use crate::Millis;
use crate::device::Lamp;

/// A flash, and the dark after it.
pub const FLASH: Millis = 300;
/// Dark between two digits, besides the dark after the last flash.
pub const BETWEEN: Millis = 1_200;
/// The long flash that says that the code begins, and the dark after it.
pub const BEGIN: Millis = 1_500;

/// Whether the lamp is on, and when that has to be asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Light {
    /// On.
    pub on: bool,
    /// Milliseconds until it changes; `None`: never.
    pub for_ms: Option<Millis>,
}

/// The lamp `since` milliseconds after the code was first shown; characters that are no digits are skipped.
pub fn code(code: &str, since: Millis) -> Light {
    let digits = || {
        code.bytes().filter(u8::is_ascii_digit).map(|digit| match digit {
            b'0' => 10,
            digit => Millis::from(digit - b'0'),
        })
    };
    let round = 2 * BEGIN + digits().map(|flashes| 2 * FLASH * flashes + BETWEEN).sum::<Millis>();
    let mut at = since % round;
    if at < 2 * BEGIN {
        let on = at < BEGIN;
        return Light { on, for_ms: Some(if on { BEGIN - at } else { 2 * BEGIN - at }) };
    }
    at -= 2 * BEGIN;
    for flashes in digits() {
        let flashing = 2 * FLASH * flashes;
        if at < flashing {
            let within = at % (2 * FLASH);
            let on = within < FLASH;
            return Light { on, for_ms: Some(if on { FLASH - within } else { 2 * FLASH - within }) };
        }
        at -= flashing;
        if at < BETWEEN {
            return Light { on: false, for_ms: Some(BETWEEN - at) };
        }
        at -= BETWEEN;
    }
    Light { on: false, for_ms: Some(1) }
}

/// The lamp of a phase, `since` milliseconds after that phase began.
pub fn lamp(lamp: Lamp, since: Millis) -> Light {
    let (on, period) = match lamp {
        Lamp::On => return Light { on: true, for_ms: None },
        Lamp::Flash => (50, 3_000),
        Lamp::Slow => (500, 1_000),
        Lamp::Fast => (100, 200),
    };
    let within = since % period;
    Light { on: within < on, for_ms: Some(if within < on { on - within } else { period - within }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a person reads who watches from `start` on until the code has gone round twice.
    fn read(shown: &str, start: Millis) -> String {
        let (mut now, mut flashes, mut digits, mut begun) = (start, 0, String::new(), false);
        loop {
            let light = code(shown, now);
            let len = light.for_ms.unwrap();
            now += len;
            match (light.on, len) {
                (true, BEGIN) if begun => return digits,
                (true, BEGIN) => {
                    begun = true;
                    digits.clear();
                }
                (true, _) => flashes += 1,
                (false, len) if len > FLASH && flashes > 0 => {
                    digits.push(char::from_digit(flashes % 10, 10).unwrap());
                    flashes = 0;
                }
                (false, _) => {}
            }
        }
    }

    #[test]
    fn a_person_who_counts_reads_the_code() {
        for shown in ["0427", "1111", "9990", "0000", "7"] {
            assert_eq!(read(shown, 0), shown);
            assert_eq!(read(shown, BEGIN + 7), shown, "watching from the middle on");
        }
    }

    #[test]
    fn without_digits_it_does_not_stop() {
        assert!(code("", 12_345).for_ms.is_some());
        assert!(code("x", u64::MAX).for_ms.is_some());
    }

    #[test]
    fn lamps_change_when_they_say() {
        for which in [Lamp::Flash, Lamp::Slow, Lamp::Fast] {
            let mut now = 0;
            for step in 0..10 {
                let light = lamp(which, now);
                assert_eq!(light.on, step % 2 == 0);
                now += light.for_ms.unwrap();
            }
        }
        assert_eq!(lamp(Lamp::On, 5), Light { on: true, for_ms: None });
    }
}
