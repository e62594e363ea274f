//! Topic aliases on the client's hop (MQTT 5 §3.3.2.3.4), one table a direction, made when the first one is set. On the PCM's hop
//! there are none: it is a Unix socket.

use crate::cause::Cause;

/// Topic aliases that a client may set, and the most that are set towards it.
pub(crate) const TOPIC_ALIASES: u16 = 16;

/// What the client set.
#[derive(Default)]
pub(super) struct Taken {
    topics: Vec<Option<String>>,
}

impl Taken {
    /// The topic that `alias` stands for: `topic`, which it stands for from now on, or the one set before if `topic` is empty.
    ///
    /// # Errors
    /// [`Cause::TopicAlias`] beyond [`TOPIC_ALIASES`], [`Cause::OutOfOrder`] if nothing was set.
    pub(super) fn resolve<'a>(&'a mut self, alias: u16, topic: &'a str) -> Result<&'a str, Cause> {
        let at = usize::from(alias).wrapping_sub(1);
        if at >= usize::from(TOPIC_ALIASES) {
            return Err(Cause::TopicAlias);
        }
        if topic.is_empty() {
            return self.topics.get(at).and_then(Option::as_deref).ok_or(Cause::OutOfOrder);
        }
        if self.topics.len() <= at {
            self.topics.resize(at + 1, None);
        }
        let known = self.topics[at].get_or_insert_default();
        known.clear();
        known.push_str(topic);
        Ok(topic)
    }
}

/// What is set towards the client: its first topics, for good.
#[derive(Default)]
pub(super) struct Given {
    topics: Vec<Told>,
}

struct Told {
    topic: String,
    /// The client has been sent the packet that sets it.
    is_set: bool,
}

/// How a delivery names its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// In full: all aliases are taken.
    InFull,
    /// In full, with this alias from now on.
    Sets(u16),
    /// By this alias alone.
    By(u16),
}

impl Given {
    /// How the next delivery names `topic`, with at most `most` aliases; nothing is set yet.
    pub(super) fn naming(&self, topic: &str, most: u16) -> Naming {
        let known = self.topics.iter().zip(1..).find(|(told, _)| told.topic == topic);
        match known {
            Some((told, alias)) if told.is_set => Naming::By(alias),
            Some((_, alias)) => Naming::Sets(alias),
            None if self.topics.len() < usize::from(most) => {
                u16::try_from(self.topics.len() + 1).map_or(Naming::InFull, Naming::Sets)
            }
            None => Naming::InFull,
        }
    }

    /// A delivery of `topic` that sets `alias` is on its way.
    pub(super) fn set(&mut self, alias: u16, topic: &str) {
        match self.topics.get_mut(usize::from(alias).wrapping_sub(1)) {
            Some(told) => told.is_set = true,
            None => self.topics.push(Told { topic: topic.to_owned(), is_set: true }),
        }
    }

    /// The delivery that set `alias` was taken back.
    pub(super) fn unset(&mut self, alias: u16) {
        if let Some(told) = self.topics.get_mut(usize::from(alias).wrapping_sub(1)) {
            told.is_set = false;
        }
    }

    /// The topic that `alias` stands for.
    pub(super) fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias).wrapping_sub(1)).map(|told| told.topic.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_sets_uses_and_changes_its_aliases() {
        let mut taken = Taken::default();
        assert_eq!(taken.resolve(3, ""), Err(Cause::OutOfOrder));
        assert_eq!(taken.resolve(3, "d/a"), Ok("d/a"));
        assert_eq!(taken.resolve(3, ""), Ok("d/a"));
        assert_eq!(taken.resolve(2, ""), Err(Cause::OutOfOrder));
        assert_eq!(taken.resolve(3, "d/b"), Ok("d/b"));
        assert_eq!(taken.resolve(3, ""), Ok("d/b"));
        for beyond in [0, TOPIC_ALIASES + 1, u16::MAX] {
            assert_eq!(taken.resolve(beyond, "d/a"), Err(Cause::TopicAlias));
        }
    }

    #[test]
    fn the_first_topics_get_the_aliases_that_the_client_takes() {
        let mut given = Given::default();
        assert_eq!(given.naming("d/a", 0), Naming::InFull);
        assert_eq!(given.naming("d/a", 2), Naming::Sets(1));
        given.set(1, "d/a");
        assert_eq!((given.naming("d/a", 2), given.naming("d/b", 2)), (Naming::By(1), Naming::Sets(2)));
        given.set(2, "d/b");
        assert_eq!(given.naming("d/c", 2), Naming::InFull);
        given.unset(1);
        assert_eq!((given.naming("d/a", 2), given.topic(1)), (Naming::Sets(1), Some("d/a")));
    }
}
