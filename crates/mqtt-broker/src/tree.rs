//! The subscription tree: which subscriptions match a topic.
//!
//! Levels of filters are the edges, the wildcards among them beside the others. Shared subscriptions hang on the node of
//! their inner filter, by group.

use crate::levels::{Levels, tidy};
use mqtt_wire::{QoS, topic};
use std::cell::Cell;
use std::rc::Rc;

/// One subscription as the router sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) session: usize,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// Subscription identifier; 0 for none.
    pub(crate) id: u32,
}

#[derive(Default)]
struct Node {
    children: Levels<Node>,
    /// Behind `+`.
    one_level: Option<Box<Node>>,
    /// Behind `#`.
    all_levels: Option<Box<Node>>,
    entries: Vec<Entry>,
    groups: Vec<Group>,
}

struct Group {
    name: Box<str>,
    members: Vec<Entry>,
    /// Whose turn it is, for the router to move on when a member was given something.
    next: Rc<Cell<usize>>,
}

/// What matches a topic; reused from message to message.
#[derive(Default)]
pub(crate) struct Matches {
    pub(crate) direct: Vec<Entry>,
    /// Members of all matching groups, each group in the order in which its members are to be tried.
    pub(crate) members: Vec<Entry>,
    /// Where each group ends in `members`, and whose turn it is in it.
    pub(crate) groups: Vec<(usize, Rc<Cell<usize>>)>,
}

impl Matches {
    fn clear(&mut self) {
        self.direct.clear();
        self.members.clear();
        self.groups.clear();
    }
}

/// All subscriptions of all sessions.
#[derive(Default)]
pub(crate) struct Tree {
    root: Node,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.one_level.is_none()
            && self.all_levels.is_none()
            && self.entries.is_empty()
            && self.groups.is_empty()
    }

    /// The node behind a level of a filter, made if it is not there.
    fn behind(&mut self, level: &str) -> &mut Node {
        match level {
            "+" => self.one_level.get_or_insert_default(),
            "#" => self.all_levels.get_or_insert_default(),
            _ => self.children.entry(level.into()).or_default(),
        }
    }

    fn put(list: &mut Vec<Entry>, entry: Entry) {
        match list.iter_mut().find(|known| known.session == entry.session) {
            Some(known) => *known = entry,
            None => list.push(entry),
        }
    }

    fn remove<'f>(&mut self, mut levels: impl Iterator<Item = &'f str>, group: Option<&str>, session: usize) {
        if let Some(level) = levels.next() {
            let wildcard = match level {
                "+" => &mut self.one_level,
                "#" => &mut self.all_levels,
                _ => {
                    if let Some(child) = self.children.get_mut(level) {
                        child.remove(levels, group, session);
                        if child.is_empty() {
                            self.children.remove(level);
                            tidy(&mut self.children);
                        }
                    }
                    return;
                }
            };
            if let Some(child) = wildcard {
                child.remove(levels, group, session);
                if child.is_empty() {
                    *wildcard = None;
                }
            }
            return;
        }
        match group {
            None => {
                self.entries.retain(|entry| entry.session != session);
                self.entries.shrink_to_fit();
            }
            Some(name) => {
                for group in self.groups.iter_mut().filter(|group| *group.name == *name) {
                    group.members.retain(|entry| entry.session != session);
                }
                self.groups.retain(|group| !group.members.is_empty());
            }
        }
    }

    fn collect(&mut self, found: &mut Matches) {
        found.direct.extend_from_slice(&self.entries);
        for group in &self.groups {
            let turn = group.next.get() % group.members.len().max(1);
            let (before, from) = group.members.split_at(turn);
            found.members.extend_from_slice(from);
            found.members.extend_from_slice(before);
            found.groups.push((found.members.len(), Rc::clone(&group.next)));
        }
    }

    fn matching(&mut self, topic: Option<&str>, wildcards: bool, found: &mut Matches) {
        if wildcards && let Some(rest) = &mut self.all_levels {
            rest.collect(found);
        }
        let Some(topic) = topic else { return self.collect(found) };
        let (level, rest) = match topic.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (topic, None),
        };
        if let Some(child) = self.children.get_mut(level) {
            child.matching(rest, true, found);
        }
        if wildcards && let Some(child) = &mut self.one_level {
            child.matching(rest, true, found);
        }
    }
}

impl Tree {
    /// Adds a subscription, or replaces the session's one with the same filter. `group` is the shared group's name.
    pub(crate) fn insert(&mut self, filter: &str, group: Option<&str>, entry: Entry) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.behind(level);
        }
        let Some(name) = group else { return Node::put(&mut node.entries, entry) };
        match node.groups.iter_mut().find(|group| *group.name == *name) {
            Some(group) => Node::put(&mut group.members, entry),
            None => node.groups.push(Group { name: name.into(), members: vec![entry], next: Rc::default() }),
        }
    }

    /// Removes a session's subscription.
    pub(crate) fn remove(&mut self, filter: &str, group: Option<&str>, session: usize) {
        self.root.remove(filter.split('/'), group, session);
    }

    /// Whether there are no subscriptions, nor levels left over from any.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Finds what matches a topic name.
    pub(crate) fn find(&mut self, topic: &str, found: &mut Matches) {
        found.clear();
        self.root.matching(Some(topic), !topic.starts_with('$'), found);
    }
}

/// Group and filter of a subscription as a client wrote it.
pub(crate) fn shared(filter: &str) -> (Option<&str>, &str) {
    match topic::split_shared(filter) {
        Some((group, inner)) => (Some(group), inner),
        None => (None, filter),
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Matches, Tree};
    use mqtt_wire::{QoS, topic};
    use proptest::prelude::*;

    fn entry(session: usize) -> Entry {
        Entry { session, qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, id: 0 }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_matching_one_by_one(
            filters in prop::collection::vec("([ab$+]|[ab])(/([ab]|[+]|)){0,3}(/#)?", 1..20),
            removed in prop::collection::vec(any::<bool>(), 20),
            name in "[ab$](/[ab]?){0,4}",
        ) {
            let mut tree = Tree::default();
            for (session, filter) in filters.iter().enumerate() {
                tree.insert(filter, None, entry(session));
            }
            for (session, filter) in filters.iter().enumerate().filter(|(at, _)| removed[*at]) {
                tree.remove(filter, None, session);
            }
            let mut found = Matches::default();
            tree.find(&name, &mut found);
            let mut sessions: Vec<usize> = found.direct.iter().map(|entry| entry.session).collect();
            sessions.sort_unstable();
            let expected: Vec<usize> = filters.iter().enumerate()
                .filter(|(at, filter)| !removed[*at] && topic::matches(filter, &name))
                .map(|(at, _)| at)
                .collect();
            prop_assert_eq!(sessions, expected);
            for (session, filter) in filters.iter().enumerate() {
                tree.remove(filter, None, session);
            }
            prop_assert!(tree.root.is_empty());
        }
    }

    #[test]
    fn groups_take_turns() {
        let mut tree = Tree::default();
        for session in 0..3 {
            tree.insert("a/+", Some("g"), entry(session));
        }
        let mut found = Matches::default();
        let mut first = Vec::new();
        for _ in 0..6 {
            tree.find("a/b", &mut found);
            assert_eq!(found.groups.len(), 1);
            let (end, next) = &found.groups[0];
            assert_eq!(*end, 3);
            next.set(next.get() + 1);
            first.push(found.members[0].session);
        }
        assert_eq!(first, [0, 1, 2, 0, 1, 2]);
        for session in 0..3 {
            tree.remove("a/+", Some("g"), session);
        }
        assert!(tree.root.is_empty());
    }
}
