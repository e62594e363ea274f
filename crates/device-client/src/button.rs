//! One button: bounces are ignored, a short press is told apart from a long one.
//!
//! A long press counts while the button is still held, so that a person sees the lamp change and may let go. What presses
//! mean is left to [`crate::device`].

use crate::Millis;

/// A contact may bounce for so long.
pub const BOUNCE: Millis = 30;
/// Held for so long it is a long press.
pub const LONG: Millis = 5_000;

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// Pressed and let go: opens a claim window.
    Short,
    /// Held: gives up ownership.
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down {
        since: Millis,
    },
    /// Let go, perhaps only bouncing.
    Leaving {
        since: Millis,
        left: Millis,
    },
    /// A long press was told; nothing more until the button is up.
    Spent,
}

/// A button.
#[derive(Clone, Copy, Debug)]
pub struct Button(State);

impl Default for Button {
    fn default() -> Self {
        Self::new()
    }
}

impl Button {
    /// Not pressed.
    pub const fn new() -> Self {
        Self(State::Up)
    }

    /// The contact is closed (`down`) or open now; call it at each change.
    pub fn set(&mut self, down: bool, now: Millis) {
        self.0 = match (self.0, down) {
            (State::Up, true) => State::Down { since: now },
            (State::Down { since }, false) => State::Leaving { since, left: now },
            (State::Leaving { since, .. }, true) => State::Down { since },
            (State::Spent, false) => State::Up,
            (state, _) => state,
        };
    }

    /// What was done, each press once; call it after [`Button::set`] and at [`Button::deadline`].
    pub fn poll(&mut self, now: Millis) -> Option<Press> {
        match self.0 {
            State::Down { since } if now >= since + LONG => {
                self.0 = State::Spent;
                Some(Press::Long)
            }
            State::Leaving { since, left } if now >= left + BOUNCE => {
                self.0 = State::Up;
                match left - since {
                    held if held >= LONG => Some(Press::Long),
                    held if held >= BOUNCE => Some(Press::Short),
                    _ => None,
                }
            }
            State::Up | State::Down { .. } | State::Leaving { .. } | State::Spent => None,
        }
    }

    /// When [`Button::poll`] may have something to say.
    pub fn deadline(&self) -> Option<Millis> {
        match self.0 {
            State::Down { since } => Some(since + LONG),
            State::Leaving { left, .. } => Some(left + BOUNCE),
            State::Up | State::Spent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays changes `(time, down)` and returns what was told when, looking at every deadline.
    fn play(changes: &[(Millis, bool)], until: Millis) -> Vec<(Millis, Press)> {
        let mut button = Button::new();
        let mut told = Vec::new();
        let mut changes = changes.iter().peekable();
        for now in 0..=until {
            while let Some((_, down)) = changes.next_if(|(at, _)| *at == now) {
                button.set(*down, now);
            }
            if button.deadline().is_some_and(|at| at <= now)
                && let Some(press) = button.poll(now)
            {
                told.push((now, press));
            }
        }
        told
    }

    #[test]
    fn a_short_press_is_told_once_and_bounces_are_not() {
        assert_eq!(play(&[(10, true), (200, false)], 10_000), [(230, Press::Short)]);
        let bouncing = [(10, true), (12, false), (14, true), (150, false), (155, true), (158, false)];
        assert_eq!(play(&bouncing, 10_000), [(188, Press::Short)]);
        assert_eq!(play(&[(10, true), (15, false)], 10_000), []);
    }

    #[test]
    fn a_long_press_is_told_while_held_and_letting_go_is_nothing() {
        assert_eq!(play(&[(10, true), (9_000, false)], 10_000), [(5_010, Press::Long)]);
        let twice = [(0, true), (6_000, false), (6_100, true), (6_300, false)];
        assert_eq!(play(&twice, 10_000), [(5_000, Press::Long), (6_330, Press::Short)]);
    }

    #[test]
    fn a_board_that_slept_through_it_still_tells() {
        let mut button = Button::new();
        button.set(true, 0);
        button.set(false, 6_000);
        assert_eq!(button.poll(7_000), Some(Press::Long));
        assert_eq!(button.poll(7_001), None);
    }
}
