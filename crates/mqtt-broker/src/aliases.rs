//! Topic aliases that the broker gives a client (§3.3.2.3.4): numbers that stand for topics it has already sent there.
//!
//! First come, first served: an alias keeps its topic for as long as the connection may carry it. So a packet that waits
//! to be written means the same topic whenever it is looked at, and no two topics fight over a number.

/// The aliases of one connection.
#[derive(Default)]
pub(crate) struct Aliases {
    /// How many the client takes, or we if that is less.
    most: usize,
    /// Index 0 is alias 1.
    topics: Vec<Option<Box<str>>>,
}

/// Shorter topics gain nothing by an alias; longer ones would cost too much to remember.
const WORTH_IT: std::ops::RangeInclusive<usize> = 4..=256;

impl Aliases {
    pub(crate) const fn up_to(most: u16) -> Aliases {
        Aliases { most: most as usize, topics: Vec::new() }
    }

    /// The alias that the client knows a topic by.
    pub(crate) fn of(&self, topic: &str) -> Option<u16> {
        let at = self.topics.iter().position(|known| known.as_deref() == Some(topic))?;
        u16::try_from(at + 1).ok()
    }

    /// A free alias, if this topic should have one.
    pub(crate) fn free_for(&self, topic: &str) -> Option<u16> {
        if self.most == 0 || !WORTH_IT.contains(&topic.len()) {
            return None;
        }
        let at = self.topics.iter().position(Option::is_none).unwrap_or(self.topics.len());
        if at < self.most { u16::try_from(at + 1).ok() } else { None }
    }

    /// The client has been told that a free alias stands for this topic from now on.
    pub(crate) fn introduce(&mut self, alias: u16, topic: &str) {
        let at = usize::from(alias).saturating_sub(1);
        if at == self.topics.len() {
            self.topics.push(None);
        }
        if let Some(place) = self.topics.get_mut(at) {
            *place = Some(topic.into());
        }
    }

    /// What an alias stands for.
    pub(crate) fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias).checked_sub(1)?)?.as_deref()
    }

    /// Forgets topics, so that they are sent in full before their aliases mean anything again.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for place in &mut self.topics {
            if place.as_deref().is_some_and(|topic| !keep(topic)) {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Aliases;

    #[test]
    fn first_come_first_served() {
        let mut aliases = Aliases::up_to(2);
        for (topic, alias) in [("first", 1), ("second", 2)] {
            assert_eq!((aliases.of(topic), aliases.free_for(topic)), (None, Some(alias)));
            aliases.introduce(alias, topic);
            assert_eq!((aliases.of(topic), aliases.topic(alias)), (Some(alias), Some(topic)));
        }
        assert_eq!(aliases.free_for("third"), None);
        aliases.retain(|topic| topic != "first");
        assert_eq!((aliases.of("first"), aliases.topic(1), aliases.free_for("third")), (None, None, Some(1)));
        assert_eq!(aliases.topic(0), None);
    }

    #[test]
    fn not_for_everything() {
        let long = "x".repeat(300);
        let aliases = Aliases::up_to(2);
        assert_eq!((aliases.free_for("a/b"), aliases.free_for(&long)), (None, None));
        assert_eq!(Aliases::default().free_for("first"), None);
    }
}
